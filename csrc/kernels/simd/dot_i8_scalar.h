// Dot products of four int8 with four int8, one lane.
#pragma once

#include <string.h>

#include "kernels/simd/vec_scalar.h"

#include "kernels/simd/from_memory.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

struct Dot : PlainDot<int8_t> {
    using Accumulator = int32_t;
    struct Inputs {
        int32_t x[4];
    };
    static constexpr int kGroup = 4;
    static constexpr int kRows = 1;
    static constexpr bool kCompensated = false;
    static constexpr int kMostRows = kTileRows;
    static constexpr int kChains = 4;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t*) { return 0; }
    static FUSEDCELL_INLINE Inputs BroadcastInput(const int8_t* const* x, ptrdiff_t k) {
        return {{x[0][k], x[0][k + 1], x[0][k + 2], x[0][k + 3]}};
    }
    template <int>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, const int8_t* w, const Inputs& in) {
        return acc + w[0] * in.x[0] + w[1] * in.x[1] + w[2] * in.x[2] + w[3] * in.x[3];
    }
    static FUSEDCELL_INLINE I32 Sums(Accumulator acc, int) { return acc; }
};
using RowsDot = Dot;
using Int16Dot = RowsDot;
constexpr bool kWholeInt16 = false;
constexpr bool kInt16Steps = false;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
