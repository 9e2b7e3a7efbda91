// Dot products of four int8 with four int8, 4 lanes, SSSE3.
#pragma once

#include <string.h>

#include "kernels/simd/vec_sse41.h"

#include "kernels/simd/from_doubles.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// PMADDUBSW multiplies unsigned by signed and saturates sums of two products at 32,767. With |x| as the unsigned
// factor and the sign of x moved to w, and both in [-127, 127], such a sum is at most 2 * 127 * 127 = 32,258: never
// saturated.
struct Dot : PlainDot<int8_t> {
    using Accumulator = I32;
    struct Inputs {
        __m128i value;
        __m128i magnitude;
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
        const __m128i value = _mm_set1_epi32(four);
        return {value, _mm_abs_epi8(value)};
    }
    template <int>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, const int8_t* w, const Inputs& in) {
        const __m128i weights = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w));
        const __m128i pairs = _mm_maddubs_epi16(in.magnitude, _mm_sign_epi8(weights, in.value));
        return _mm_add_epi32(acc, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
    }
    static FUSEDCELL_INLINE I32 Sums(Accumulator acc, int) { return acc; }
};
using RowsDot = Dot;

// PMADDWD adds two products of int16 to an int32: weights and inputs of even k, widened, and then those of odd k. A
// sum over kMostWhole inputs is at most 1024 * 127 * 127 * 128, which an int32 holds.
struct Int16Dot : PlainDot<int8_t> {
    using Accumulator = I32;
    struct Inputs {
        __m128i even;
        __m128i odd;
    };
    static constexpr int kGroup = 4;
    static constexpr int kRows = 2;
    static constexpr int kMostRows = 1;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t*) { return ZeroI32(); }
    /// 128 high + low.
    static FUSEDCELL_INLINE Inputs BroadcastInput(const int8_t* const* x, ptrdiff_t k) {
        int32_t four[2];
        memcpy(&four[0], x[0] + k, sizeof four[0]);
        memcpy(&four[1], x[1] + k, sizeof four[1]);
        const __m128i high = _mm_set1_epi32(four[0]);
        const __m128i low = _mm_set1_epi32(four[1]);
        const __m128i odd_high = _mm_and_si128(high, _mm_set1_epi16(-256));
        return {_mm_add_epi16(_mm_srai_epi16(_mm_slli_epi16(high, 8), 1), _mm_srai_epi16(_mm_slli_epi16(low, 8), 8)),
                _mm_add_epi16(_mm_srai_epi16(odd_high, 1), _mm_srai_epi16(low, 8))};
    }
    template <int>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, const int8_t* w, const Inputs& in) {
        const __m128i weights = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w));
        const __m128i even = _mm_madd_epi16(_mm_srai_epi16(_mm_slli_epi16(weights, 8), 8), in.even);
        const __m128i odd = _mm_madd_epi16(_mm_srai_epi16(weights, 8), in.odd);
        return _mm_add_epi32(acc, _mm_add_epi32(even, odd));
    }
    static FUSEDCELL_INLINE I32 Sums(Accumulator acc, int) { return acc; }
};
constexpr bool kWholeInt16 = true;
constexpr bool kInt16Steps = false;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
