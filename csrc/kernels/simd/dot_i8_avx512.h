// Dot products of four int8 with four int8, 16 lanes, AVX-512 without VNNI.
#pragma once

#include <string.h>

#include "kernels/simd/vec_avx512.h"

#include "kernels/simd/from_memory.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// As in dot_i8_avx2.h; AVX-512 has no VPSIGNB, so the weights are negated under a mask of the negative x.
struct Dot : PlainDot<int8_t> {
    using Accumulator = I32;
    struct Inputs {
        __m512i magnitude;
        __mmask64 negative;
    };
    static constexpr int kGroup = 4;
    static constexpr int kRows = 1;
    static constexpr bool kCompensated = false;
    static constexpr int kMostRows = kTileRows;
    static constexpr int kChains = 8;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t*) { return ZeroI32(); }
    static FUSEDCELL_INLINE Inputs BroadcastInput(const int8_t* const* x, ptrdiff_t k) {
        int32_t four;
        memcpy(&four, x[0] + k, sizeof four);
        const __m512i value = _mm512_set1_epi32(four);
        return {_mm512_abs_epi8(value), _mm512_movepi8_mask(value)};
    }
    template <int>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, const int8_t* w, const Inputs& in) {
        const __m512i weights = _mm512_loadu_si512(w);
        const __m512i turned = _mm512_mask_sub_epi8(weights, in.negative, _mm512_setzero_si512(), weights);
        const __m512i pairs = _mm512_maddubs_epi16(in.magnitude, turned);
        return ToI32(_mm512_add_epi32(Bits(acc), _mm512_madd_epi16(pairs, _mm512_set1_epi16(1))));
    }
    static FUSEDCELL_INLINE I32 Sums(Accumulator acc, int) { return acc; }
};
using RowsDot = Dot;

// As in dot_i8_avx2.h.
struct Int16Dot : PlainDot<int8_t> {
    using Accumulator = I32;
    struct Inputs {
        __m512i even;
        __m512i odd;
    };
    static constexpr int kGroup = 4;
    static constexpr int kRows = 2;
    static constexpr int kMostRows = 4;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t*) { return ZeroI32(); }
    /// 128 high + low, by unsigned factors of 128 and 1.
    static FUSEDCELL_INLINE Inputs BroadcastInput(const int8_t* const* x, ptrdiff_t k) {
        int32_t four[2];
        memcpy(&four[0], x[0] + k, sizeof four[0]);
        memcpy(&four[1], x[1] + k, sizeof four[1]);
        const __m512i planes = _mm512_unpacklo_epi8(_mm512_set1_epi32(four[0]), _mm512_set1_epi32(four[1]));
        const __m512i whole = _mm512_maddubs_epi16(_mm512_set1_epi16(0x0180), planes);
        return {_mm512_shuffle_epi8(whole, _mm512_set1_epi32(0x05040100)),
                _mm512_shuffle_epi8(whole, _mm512_set1_epi32(0x07060302))};
    }
    template <int>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, const int8_t* w, const Inputs& in) {
        __m512i weights = _mm512_loadu_si512(w);
        FUSEDCELL_IN_REGISTER(weights);
        const __m512i even = _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_set1_epi16(1), weights), in.even);
        const __m512i odd = _mm512_madd_epi16(_mm512_srai_epi16(weights, 8), in.odd);
        return ToI32(_mm512_add_epi32(Bits(acc), _mm512_add_epi32(even, odd)));
    }
    static FUSEDCELL_INLINE I32 Sums(Accumulator acc, int) { return acc; }
};
constexpr bool kWholeInt16 = true;
constexpr bool kInt16Steps = false;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
