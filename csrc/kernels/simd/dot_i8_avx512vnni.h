// Dot products of four int8 with four int8, 16 lanes, AVX-512 VNNI.
#pragma once

#include <string.h>

#include "kernels/simd/vec_avx512.h"

#include "kernels/simd/from_memory.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// See dot_i8_avxvnni.h for the arithmetic.
struct Dot : PlainDot<int8_t> {
    using Accumulator = I32;
    using Inputs = __m512i;
    static constexpr int kGroup = 4;
    static constexpr int kRows = 1;
    static constexpr bool kCompensated = true;
    static constexpr int kMostRows = kTileRows;
    static constexpr int kChains = 8;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t* compensation) {
        return ToI32(_mm512_loadu_si512(compensation));
    }
    static FUSEDCELL_INLINE Inputs BroadcastInput(const int8_t* const* x, ptrdiff_t k) {
        int32_t four;
        memcpy(&four, x[0] + k, sizeof four);
        return _mm512_xor_si512(_mm512_set1_epi32(four), _mm512_set1_epi8(-128));
    }
    template <int>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, const int8_t* w, Inputs in) {
        return ToI32(_mm512_dpbusd_epi32(Bits(acc), in, _mm512_loadu_si512(w)));
    }
    static FUSEDCELL_INLINE I32 Sums(Accumulator acc, int) { return acc; }
};

// See dot_i8_avxvnni.h.
struct RowsDot : Dot {
    using Weights = __m512i;

    static FUSEDCELL_INLINE Weights WeightsAt(const int8_t* p) {
        __m512i weights = _mm512_loadu_si512(p);
        FUSEDCELL_IN_REGISTER(weights);
        return weights;
    }
    template <int>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, Weights w, Inputs in) {
        return ToI32(_mm512_dpbusd_epi32(Bits(acc), in, w));
    }
};
using Int16Dot = RowsDot;
constexpr bool kWholeInt16 = false;
constexpr bool kInt16Steps = true;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
