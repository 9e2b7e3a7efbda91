// Dot products of four int8 with four int8, 16 lanes, AVX-512 VNNI.
#pragma once

#include <string.h>

#include "kernels/simd/vec_avx512.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// See dot_i8_avxvnni.h for the arithmetic.
struct Dot {
    using Accumulator = __m512i;
    using Input = __m512i;
    static constexpr bool kCompensated = true;
    static constexpr int kChains = 8;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t* compensation) { return _mm512_loadu_si512(compensation); }
    static FUSEDCELL_INLINE Input Broadcast4(const int8_t* x) {
        int32_t four;
        memcpy(&four, x, sizeof four);
        return _mm512_xor_si512(_mm512_set1_epi32(four), _mm512_set1_epi8(-128));
    }
    static FUSEDCELL_INLINE Accumulator Dot4(Accumulator acc, const int8_t* w, Input in) {
        return _mm512_dpbusd_epi32(acc, in, _mm512_loadu_si512(w));
    }
    static FUSEDCELL_INLINE F32 ToFloat(Accumulator acc) { return _mm512_cvtepi32_ps(acc); }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
