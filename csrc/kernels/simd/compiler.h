// Spellings that differ between compilers.
#pragma once

// IN_REGISTER is where an x86 vector is loaded once, however many instructions could take it from memory.
// An OPAQUE function is out of line, and nothing is concluded from the arguments of its calls: from counts that are
// never large GCC would make copies of loops, one after another. NOCLONE asks for one copy, whatever is known of calls.
#if defined(_MSC_VER) && !defined(__clang__)
#define FUSEDCELL_INLINE __forceinline
#define FUSEDCELL_NOINLINE __declspec(noinline)
#define FUSEDCELL_OPAQUE __declspec(noinline)
#define FUSEDCELL_NOCLONE
#define FUSEDCELL_UNROLL
#define FUSEDCELL_NO_UNROLL
#define FUSEDCELL_RARE(condition) (condition)
#define FUSEDCELL_PREFETCH(address) static_cast<void>(address)
#define FUSEDCELL_IN_REGISTER(vector) static_cast<void>(vector)
#elif defined(__clang__)
#define FUSEDCELL_INLINE inline __attribute__((always_inline))
#define FUSEDCELL_NOINLINE __attribute__((noinline))
#define FUSEDCELL_OPAQUE __attribute__((noinline))
#define FUSEDCELL_NOCLONE
#define FUSEDCELL_UNROLL _Pragma("unroll")
#define FUSEDCELL_NO_UNROLL _Pragma("nounroll")
#define FUSEDCELL_RARE(condition) __builtin_expect(condition, 0)
#define FUSEDCELL_PREFETCH(address) __builtin_prefetch(address)
#define FUSEDCELL_IN_REGISTER(vector) asm("" : "+x"(vector))
#else
#define FUSEDCELL_INLINE inline __attribute__((always_inline))
#define FUSEDCELL_NOINLINE __attribute__((noinline))
#define FUSEDCELL_OPAQUE __attribute__((noipa))
#define FUSEDCELL_NOCLONE __attribute__((noclone))
#define FUSEDCELL_UNROLL _Pragma("GCC unroll 32")
#define FUSEDCELL_NO_UNROLL _Pragma("GCC unroll 1")
#define FUSEDCELL_RARE(condition) __builtin_expect(condition, 0)
#define FUSEDCELL_PREFETCH(address) __builtin_prefetch(address)
#define FUSEDCELL_IN_REGISTER(vector) asm("" : "+x"(vector))
#endif
