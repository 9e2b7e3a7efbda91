// What a build of the C++ library can leave out: each FUSEDCELL_WITHOUT_NAME is defined by cmake/parts.cmake. Macros
// alone, because the lists that include this are themselves included in the middle of things.
//
//   FUSEDCELL_PART(NAME, Class)    Class, or NoKernel
#pragma once

#define FUSEDCELL_PART(NAME, Class) FUSEDCELL_PART_##NAME(Class)

#ifdef FUSEDCELL_WITHOUT_RNN
#define FUSEDCELL_PART_RNN(Class) NoKernel
#else
#define FUSEDCELL_PART_RNN(Class) Class
#endif
#ifdef FUSEDCELL_WITHOUT_LSTM
#define FUSEDCELL_PART_LSTM(Class) NoKernel
#else
#define FUSEDCELL_PART_LSTM(Class) Class
#endif
#ifdef FUSEDCELL_WITHOUT_GRU
#define FUSEDCELL_PART_GRU(Class) NoKernel
#else
#define FUSEDCELL_PART_GRU(Class) Class
#endif
#ifdef FUSEDCELL_WITHOUT_GRU_RESET_BEFORE
#define FUSEDCELL_PART_GRU_RESET_BEFORE(Class) NoKernel
#else
#define FUSEDCELL_PART_GRU_RESET_BEFORE(Class) Class
#endif
#ifdef FUSEDCELL_WITHOUT_OPTIONS
#define FUSEDCELL_PART_OPTIONS(Class) NoKernel
#else
#define FUSEDCELL_PART_OPTIONS(Class) Class
#endif

#ifdef FUSEDCELL_WITHOUT_FLOAT32
#define FUSEDCELL_PART_FLOAT32(Class) NoKernel
#else
#define FUSEDCELL_PART_FLOAT32(Class) Class
#endif
#ifdef FUSEDCELL_WITHOUT_BFLOAT16
#define FUSEDCELL_PART_BFLOAT16(Class) NoKernel
#else
#define FUSEDCELL_PART_BFLOAT16(Class) Class
#endif
#ifdef FUSEDCELL_WITHOUT_FLOAT16
#define FUSEDCELL_PART_FLOAT16(Class) NoKernel
#else
#define FUSEDCELL_PART_FLOAT16(Class) Class
#endif
#ifdef FUSEDCELL_WITHOUT_INT8
#define FUSEDCELL_PART_INT8(Class) NoKernel
#else
#define FUSEDCELL_PART_INT8(Class) Class
#endif
#ifdef FUSEDCELL_WITHOUT_INT8_INT16
#define FUSEDCELL_PART_INT8_INT16(Class) NoKernel
#else
#define FUSEDCELL_PART_INT8_INT16(Class) Class
#endif
