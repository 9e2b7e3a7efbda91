// Dot products of four int8 with four int8, 4 lanes, SDOT.
#pragma once

#include <string.h>

#include "kernels/simd/vec_neon.h"

#include "kernels/simd/from_registers.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

struct Dot : PipelinedDot<int8_t, int8x16_t> {
    using Weights = int8x16_t;
    using Inputs = int8x16_t;
    using Accumulator = int32x4_t;
    static constexpr int kGroup = 4;
    static constexpr int kTogether = 1;
    static constexpr int kInputs = 4;
    static constexpr int kRows = 1;
    static constexpr int kMostRows = kTileRows;
    static constexpr bool kCompensated = false;
    static constexpr int kChains = 16;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t*) { return vdupq_n_s32(0); }
    static FUSEDCELL_INLINE Inputs LoadInputs(const int8_t* const* x, ptrdiff_t k) { return vld1q_s8(x[0] + k); }
    static FUSEDCELL_INLINE Inputs BroadcastInput(const int8_t* const* x, ptrdiff_t k) {
        int32_t four;
        memcpy(&four, x[0] + k, sizeof four);
        return vreinterpretq_s8_s32(vdupq_n_s32(four));
    }
    template <int kPlace>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, Weights w, Inputs in) {
#ifdef FUSEDCELL_IN_PLACE
        asm volatile("sdot %0.4s, %1.16b, %2.4b[%3]" : "+w"(acc) : "w"(w), "w"(in), "i"(kPlace));
        return acc;
#else
        return vdotq_laneq_s32(acc, w, in, kPlace);
#endif
    }
    static FUSEDCELL_INLINE I32 Sums(Accumulator acc, int) { return acc; }
};
using RowsDot = Dot;
using Int16Dot = RowsDot;
constexpr bool kWholeInt16 = false;
constexpr bool kInt16Steps = false;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
