// Dot products of eight int8 with eight int8, 4 lanes, SDOT and SMMLA.
#pragma once

#include <string.h>

#include "kernels/simd/vec_neon.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// A vector holds the weights of two lanes. `low` belongs to lanes 0, 1 and `high` to 2, 3; SDOT leaves two sums a lane.
struct Dot {
    struct Accumulator {
        int32x4_t low;
        int32x4_t high;
    };
    using Input = int8x16_t;
    static constexpr int kGroup = 8;
    static constexpr int kRows = 1;
    static constexpr bool kCompensated = false;
    static constexpr int kChains = 8;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t*) { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
    static FUSEDCELL_INLINE Input Broadcast(const int8_t* const* x, ptrdiff_t k) {
        int64_t eight;
        memcpy(&eight, x[0] + k, sizeof eight);
        return vreinterpretq_s8_s64(vdupq_n_s64(eight));
    }
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, const int8_t* w, Input in) {
        return {vdotq_s32(acc.low, vld1q_s8(w), in), vdotq_s32(acc.high, vld1q_s8(w + 16), in)};
    }
    static FUSEDCELL_INLINE F32 ToFloat(Accumulator acc, int) { return vcvtq_f32_s32(vpaddq_s32(acc.low, acc.high)); }
};

// SMMLA multiplies the weights of two lanes by two rows: the sums of a lane for both rows are neighbours.
struct RowsDot : Dot {
    static constexpr int kRows = 2;

    static FUSEDCELL_INLINE Input Broadcast(const int8_t* const* x, ptrdiff_t k) {
        return vcombine_s8(vld1_s8(x[0] + k), vld1_s8(x[1] + k));
    }
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, const int8_t* w, Input in) {
        return {vmmlaq_s32(acc.low, vld1q_s8(w), in), vmmlaq_s32(acc.high, vld1q_s8(w + 16), in)};
    }
    static FUSEDCELL_INLINE F32 ToFloat(Accumulator acc, int row) {
        return vcvtq_f32_s32(row == 0 ? vuzp1q_s32(acc.low, acc.high) : vuzp2q_s32(acc.low, acc.high));
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
