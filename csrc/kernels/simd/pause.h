// Tells the CPU that this thread spins.
#pragma once

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#elif defined(_MSC_VER)
#include <intrin.h>
#endif

namespace fusedcell {

inline void Pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(_MSC_VER)
    __yield();
#elif defined(__ARM_ARCH) && __ARM_ARCH >= 7
    __asm__ volatile("yield");
#endif
}

}    // namespace fusedcell
