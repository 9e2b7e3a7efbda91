// Dot products of four int8 with four int8, 8 lanes, AVX2.
#pragma once

#include <string.h>

#include "kernels/simd/vec_avx2.h"

#include "kernels/simd/from_memory.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// VPMADDUBSW multiplies unsigned by signed and saturates sums of two products at 32,767. With |x| as the unsigned
// factor and the sign of x moved to w, and both in [-127, 127], such a sum is at most 2 * 127 * 127 = 32,258: never
// saturated.
struct Dot : PlainDot<int8_t> {
    using Accumulator = I32;
    struct Inputs {
        __m256i value;
        __m256i magnitude;
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
        const __m256i value = _mm256_set1_epi32(four);
        return {value, _mm256_abs_epi8(value)};
    }
    template <int>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, const int8_t* w, const Inputs& in) {
        const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
        const __m256i pairs = _mm256_maddubs_epi16(in.magnitude, _mm256_sign_epi8(weights, in.value));
        return ToI32(_mm256_add_epi32(Bits(acc), _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
    }
    static FUSEDCELL_INLINE I32 Sums(Accumulator acc, int) { return acc; }
};
using RowsDot = Dot;

// VPMADDWD adds two products of int16 to an int32: weights and inputs of even k, widened, and then those of odd k. To
// widen the even ones takes two shifts, or one VPMADDUBSW by factors of 1 and 0. A sum over kMostWhole inputs is at
// most 1024 * 127 * 127 * 128, which an int32 holds.
struct Int16Dot : PlainDot<int8_t> {
    using Accumulator = I32;
    struct Inputs {
        __m256i even;
        __m256i odd;
    };
    static constexpr int kGroup = 4;
    static constexpr int kRows = 2;
    static constexpr int kMostRows = 2;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t*) { return ZeroI32(); }
    /// 128 high + low, by unsigned factors of 128 and 1.
    static FUSEDCELL_INLINE Inputs BroadcastInput(const int8_t* const* x, ptrdiff_t k) {
        int32_t four[2];
        memcpy(&four[0], x[0] + k, sizeof four[0]);
        memcpy(&four[1], x[1] + k, sizeof four[1]);
        const __m256i planes = _mm256_unpacklo_epi8(_mm256_set1_epi32(four[0]), _mm256_set1_epi32(four[1]));
        const __m256i whole = _mm256_maddubs_epi16(_mm256_set1_epi16(0x0180), planes);
        return {_mm256_shuffle_epi8(whole, _mm256_set1_epi32(0x05040100)),
                _mm256_shuffle_epi8(whole, _mm256_set1_epi32(0x07060302))};
    }
    template <int>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, const int8_t* w, const Inputs& in) {
        const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
        const __m256i even = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi16(1), weights), in.even);
        const __m256i odd = _mm256_madd_epi16(_mm256_srai_epi16(weights, 8), in.odd);
        return ToI32(_mm256_add_epi32(Bits(acc), _mm256_add_epi32(even, odd)));
    }
    static FUSEDCELL_INLINE I32 Sums(Accumulator acc, int) { return acc; }
};
constexpr bool kWholeInt16 = true;
constexpr bool kInt16Steps = false;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
