// Spellings that differ between compilers.
#pragma once

#if defined(_MSC_VER) && !defined(__clang__)
#define FUSEDCELL_INLINE __forceinline
#define FUSEDCELL_NOINLINE __declspec(noinline)
#define FUSEDCELL_UNROLL
#define FUSEDCELL_NO_UNROLL
#define FUSEDCELL_PREFETCH(address) static_cast<void>(address)
#elif defined(__clang__)
#define FUSEDCELL_INLINE inline __attribute__((always_inline))
#define FUSEDCELL_NOINLINE __attribute__((noinline))
#define FUSEDCELL_UNROLL _Pragma("unroll")
#define FUSEDCELL_NO_UNROLL _Pragma("nounroll")
#define FUSEDCELL_PREFETCH(address) __builtin_prefetch(address)
#else
#define FUSEDCELL_INLINE inline __attribute__((always_inline))
#define FUSEDCELL_NOINLINE __attribute__((noinline))
#define FUSEDCELL_UNROLL _Pragma("GCC unroll 32")
#define FUSEDCELL_NO_UNROLL _Pragma("GCC unroll 1")
#define FUSEDCELL_PREFETCH(address) __builtin_prefetch(address)
#endif

// Functions of loops that leave no register free. Before register allocation, GCC's scheduling for AArch64 moves their
// loads up until accumulators have to go to memory; of everything else it makes faster code.
#if defined(__GNUC__) && !defined(__clang__) && defined(__aarch64__)
#define FUSEDCELL_TILE __attribute__((noinline, optimize("no-schedule-insns")))
#else
#define FUSEDCELL_TILE FUSEDCELL_NOINLINE
#endif
