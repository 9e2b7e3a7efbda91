// Dot products of four int8 with four int8, 4 lanes, SDOT.
#pragma once

#include <string.h>

#include "kernels/simd/vec_neon.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

struct Dot {
    using Accumulator = int32x4_t;
    using Input = int8x16_t;
    static constexpr int kGroup = 4;
    static constexpr int kRows = 1;
    static constexpr bool kCompensated = false;
    static constexpr int kChains = 16;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t*) { return vdupq_n_s32(0); }
    static FUSEDCELL_INLINE Input Broadcast(const int8_t* const* x, ptrdiff_t k) {
        int32_t four;
        memcpy(&four, x[0] + k, sizeof four);
        return vreinterpretq_s8_s32(vdupq_n_s32(four));
    }
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, const int8_t* w, Input in) {
        return vdotq_s32(acc, vld1q_s8(w), in);
    }
    static FUSEDCELL_INLINE F32 ToFloat(Accumulator acc, int) { return vcvtq_f32_s32(acc); }
};
using RowsDot = Dot;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
