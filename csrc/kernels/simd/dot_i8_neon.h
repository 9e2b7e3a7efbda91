// Dot products of four int8 with four int8, 4 lanes, the AArch64 baseline.
#pragma once

#include <string.h>

#include "kernels/simd/vec_neon.h"

#include "kernels/simd/from_registers.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// Products of values in [-127, 127] are at most 16,129, so that int16 holds two: those of a lane in two groups. SADALP
// adds neighbouring pairs of such sums to int32. Two accumulators hold the pairs of lanes 0, 1 and 2, 3; adding their
// neighbours at the end gives one sum a lane.
struct Dot {
    using Element = int8_t;
    struct Weights {
        int8x16_t first;
        int8x16_t second;
    };
    struct Accumulator {
        int32x4_t low;
        int32x4_t high;
    };
    using Inputs = Weights;    // four bytes of each group, four times over
    static constexpr int kGroup = 4;
    static constexpr int kTogether = 2;
    static constexpr int kInputs = 1;
    static constexpr int kTemporaries = 2;
    static constexpr int kRows = 1;
    static constexpr int kMostRows = 2;
    static constexpr bool kCompensated = false;
    static constexpr int kChains = 8;
    template <int kSize>
    struct Chunk {
        Registers<int8x16_t, kSize> first;
        Registers<int8x16_t, kSize> second;
    };

    template <int kCount, class AnyChunk>
    static FUSEDCELL_INLINE void LoadChunk(AnyChunk& chunk, const int8_t* p, ptrdiff_t stride) {
        LoadRegisters<kCount>(chunk.first, p);
        LoadRegisters<kCount>(chunk.second, p + stride);
    }
    template <int kCount, class AnyChunk>
    static FUSEDCELL_INLINE void LoadRest(AnyChunk& chunk, const int8_t* p, ptrdiff_t stride) {
        LoadRestOf<kCount>(chunk.first, p);
        LoadRestOf<kCount>(chunk.second, p + stride);
    }
    template <class AnyChunk>
    static FUSEDCELL_INLINE void Complete(AnyChunk& chunk) {
        CompleteRegisters(chunk.first);
        CompleteRegisters(chunk.second);
    }
    template <class AnyChunk>
    static FUSEDCELL_INLINE Weights WeightsOf(const AnyChunk& chunk, int i) {
        return {chunk.first.w[i], chunk.second.w[i]};
    }

    static FUSEDCELL_INLINE Accumulator Start(const int32_t*) { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
    static FUSEDCELL_INLINE int8x16_t BroadcastFour(const int8_t* x) {
        int32_t four;
        memcpy(&four, x, sizeof four);
        return vreinterpretq_s8_s32(vdupq_n_s32(four));
    }
    static FUSEDCELL_INLINE Inputs LoadInputs(const int8_t* const* x, ptrdiff_t k) {
        return {BroadcastFour(x[0] + k), BroadcastFour(x[0] + k + kGroup)};
    }
    static FUSEDCELL_INLINE Inputs BroadcastInput(const int8_t* const* x, ptrdiff_t k) {
        return {BroadcastFour(x[0] + k), vdupq_n_s8(0)};
    }
    template <int>
    static FUSEDCELL_INLINE Accumulator Add(const Accumulator& acc, const Weights& w, const Inputs& in) {
        const int16x8_t low = vmull_s8(vget_low_s8(w.first), vget_low_s8(in.first));
        const int16x8_t high = vmull_high_s8(w.first, in.first);
        return {vpadalq_s16(acc.low, vmlal_s8(low, vget_low_s8(w.second), vget_low_s8(in.second))),
                vpadalq_s16(acc.high, vmlal_high_s8(high, w.second, in.second))};
    }
    static FUSEDCELL_INLINE I32 Sums(const Accumulator& acc, int) { return vpaddq_s32(acc.low, acc.high); }
};
using RowsDot = Dot;
using Int16Dot = RowsDot;
constexpr bool kWholeInt16 = false;
constexpr bool kInt16Steps = false;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
