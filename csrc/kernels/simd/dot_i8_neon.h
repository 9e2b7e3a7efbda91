// Dot products of four int8 with four int8, 4 lanes, the AArch64 baseline.
#pragma once

#include <string.h>

#include "kernels/simd/vec_neon.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// Products of values in [-127, 127] are at most 16,129 and fit int16; SADALP adds neighbouring pairs of them to int32.
// Two accumulators hold the pairs of lanes 0, 1 and 2, 3; adding their neighbours at the end gives one sum a lane.
struct Dot {
    struct Accumulator {
        int32x4_t low;
        int32x4_t high;
    };
    using Input = int8x8_t;
    static constexpr int kGroup = 4;
    static constexpr int kRows = 1;
    static constexpr bool kCompensated = false;
    static constexpr int kChains = 8;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t*) { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
    static FUSEDCELL_INLINE Input Broadcast(const int8_t* const* x, ptrdiff_t k) {
        int32_t four;
        memcpy(&four, x[0] + k, sizeof four);
        return vreinterpret_s8_s32(vdup_n_s32(four));
    }
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, const int8_t* w, Input in) {
        const int8x16_t weights = vld1q_s8(w);
        return {vpadalq_s16(acc.low, vmull_s8(vget_low_s8(weights), in)),
                vpadalq_s16(acc.high, vmull_s8(vget_high_s8(weights), in))};
    }
    static FUSEDCELL_INLINE F32 ToFloat(Accumulator acc, int) { return vcvtq_f32_s32(vpaddq_s32(acc.low, acc.high)); }
};
using RowsDot = Dot;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
