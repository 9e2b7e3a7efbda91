// Dot products of eight int8 with eight int8, 4 lanes, SDOT and SMMLA.
#pragma once

#include <string.h>

#include "kernels/simd/vec_neon.h"

#include "kernels/simd/from_registers.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// A vector's weights are those of lanes 0, 1 in `low` and of 2, 3 in `high`; SDOT leaves two sums a lane.
struct Dot {
    using Element = int8_t;
    struct Weights {
        int8x16_t low;
        int8x16_t high;
    };
    struct Accumulator {
        int32x4_t low;
        int32x4_t high;
    };
    struct Inputs {
        int8x16_t groups[2];
    };
    static constexpr int kGroup = 8;
    static constexpr int kTogether = 1;
    static constexpr int kInputs = 2;
    static constexpr int kTemporaries = 0;
    static constexpr int kRows = 1;
    static constexpr int kMostRows = kTileRows;
    static constexpr bool kCompensated = false;
    static constexpr int kChains = 8;
    template <int kSize>
    using Chunk = Registers<int8x16_t, 2 * kSize>;

    template <int kCount, class AnyChunk>
    static FUSEDCELL_INLINE void LoadChunk(AnyChunk& chunk, const int8_t* p, ptrdiff_t) {
        LoadRegisters<2 * kCount>(chunk, p);
    }
    template <int kCount, class AnyChunk>
    static FUSEDCELL_INLINE void LoadRest(AnyChunk& chunk, const int8_t* p, ptrdiff_t) {
        LoadRestOf<2 * kCount>(chunk, p);
    }
    template <class AnyChunk>
    static FUSEDCELL_INLINE void Complete(AnyChunk& chunk) {
        CompleteRegisters(chunk);
    }
    template <class AnyChunk>
    static FUSEDCELL_INLINE Weights WeightsOf(const AnyChunk& chunk, int i) {
        return {chunk.w[2 * i], chunk.w[2 * i + 1]};
    }

    static FUSEDCELL_INLINE Accumulator Start(const int32_t*) { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
    static FUSEDCELL_INLINE int8x16_t BroadcastEight(const int8_t* x) {
        int64_t eight;
        memcpy(&eight, x, sizeof eight);
        return vreinterpretq_s8_s64(vdupq_n_s64(eight));
    }
    static FUSEDCELL_INLINE Inputs LoadInputs(const int8_t* const* x, ptrdiff_t k) {
        return {{BroadcastEight(x[0] + k), BroadcastEight(x[0] + k + 8)}};
    }
    static FUSEDCELL_INLINE Inputs BroadcastInput(const int8_t* const* x, ptrdiff_t k) {
        return {{BroadcastEight(x[0] + k), vdupq_n_s8(0)}};
    }
    template <int kPlace>
    static FUSEDCELL_INLINE Accumulator Add(const Accumulator& acc, const Weights& w, const Inputs& in) {
        return {vdotq_s32(acc.low, w.low, in.groups[kPlace]), vdotq_s32(acc.high, w.high, in.groups[kPlace])};
    }
    static FUSEDCELL_INLINE I32 Sums(const Accumulator& acc, int) { return vpaddq_s32(acc.low, acc.high); }
};

// SMMLA multiplies the weights of two lanes by two rows: the sums of a lane for both rows are neighbours.
struct RowsDot : Dot {
    using Inputs = int8x16_t;
    static constexpr int kInputs = 1;
    static constexpr int kRows = 2;

    static FUSEDCELL_INLINE Inputs BroadcastInput(const int8_t* const* x, ptrdiff_t k) {
        return vcombine_s8(vld1_s8(x[0] + k), vld1_s8(x[1] + k));
    }
    template <int>
    static FUSEDCELL_INLINE Accumulator Add(const Accumulator& acc, const Weights& w, Inputs in) {
        return {vmmlaq_s32(acc.low, w.low, in), vmmlaq_s32(acc.high, w.high, in)};
    }
    static FUSEDCELL_INLINE I32 Sums(const Accumulator& acc, int row) {
        return row == 0 ? vuzp1q_s32(acc.low, acc.high) : vuzp2q_s32(acc.low, acc.high);
    }
};

using Int16Dot = RowsDot;
constexpr bool kWholeInt16 = false;
constexpr bool kInt16Steps = false;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
