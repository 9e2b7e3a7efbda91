// Dot products of four int8 with four int8, 8 lanes, AVX-VNNI.
#pragma once

#include <string.h>

#include "kernels/simd/vec_avx2.h"

#include "kernels/simd/from_memory.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// VPDPBUSD multiplies unsigned by signed, so x + 128 goes in, and the accumulator starts at -128 times the sum of the
// weights, which packing leaves beside them. No intermediate saturates; 65,536 products of 255 * 127 fit 31 bits.
struct Dot : PlainDot<int8_t> {
    using Accumulator = I32;
    using Inputs = __m256i;
    static constexpr int kGroup = 4;
    static constexpr int kRows = 1;
    static constexpr bool kCompensated = true;
    static constexpr int kMostRows = kTileRows;
    static constexpr int kChains = 8;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t* compensation) {
        return ToI32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(compensation)));
    }
    static FUSEDCELL_INLINE Inputs BroadcastInput(const int8_t* const* x, ptrdiff_t k) {
        int32_t four;
        memcpy(&four, x[0] + k, sizeof four);
        return _mm256_xor_si256(_mm256_set1_epi32(four), _mm256_set1_epi8(-128));
    }
    template <int>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, const int8_t* w, Inputs in) {
        return Add(acc, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)), in);
    }
    static FUSEDCELL_INLINE I32 Sums(Accumulator acc, int) { return acc; }

protected:
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, __m256i weights, Inputs in) {
#if defined(__AVX512VNNI__) && !defined(__AVXVNNI__)
        return ToI32(_mm256_dpbusd_epi32(Bits(acc), in, weights));    // the EVEX encoding, for tests
#else
        return ToI32(_mm256_dpbusd_avx_epi32(Bits(acc), in, weights));
#endif
    }
};

// Two instructions that both take a vector from memory wait for it twice.
struct RowsDot : Dot {
    using Weights = __m256i;

    static FUSEDCELL_INLINE Weights WeightsAt(const int8_t* p) {
        __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        FUSEDCELL_IN_REGISTER(weights);
        return weights;
    }
    template <int>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, Weights w, Inputs in) {
        return Dot::Add(acc, w, in);
    }
};
using Int16Dot = RowsDot;
constexpr bool kWholeInt16 = false;
constexpr bool kInt16Steps = false;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
