// Weights one vector at a time and inputs one broadcast at a time, as every loop over them has it that is plain
// (generic/dot.h). Dot products include it after their vector type.
#pragma once

#ifndef FUSEDCELL_ISA    // opened by itself
#include "kernels/simd/vec_scalar.h"
#endif

#define FUSEDCELL_TILE FUSEDCELL_NOINLINE

namespace fusedcell::FUSEDCELL_ISA {
namespace {

constexpr int kInputs = 1;
constexpr bool kPairsOfPanels = kLanes == 16;    // which take the registers of AVX-512

FUSEDCELL_INLINE F32 LoadInputs(const float* x) { return Broadcast(*x); }
template <int>
FUSEDCELL_INLINE F32 MulAddInput(F32 w, F32 input, F32 acc) {
    return MulAdd(w, input, acc);
}

/// What dots share whose loop is plain.
template <class AnyElement>
struct PlainDot {
    using Element = AnyElement;
    using Weights = const Element*;
    static constexpr int kTogether = 1;
    static constexpr int kInputs = 1;

    static FUSEDCELL_INLINE const Element* WeightsAt(const Element* p) { return p; }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
