// Weights one vector at a time and inputs one broadcast at a time, for tiers whose multiply-adds take them from memory.
// Dot products include it after their vector type.
#pragma once

#ifndef FUSEDCELL_ISA    // opened by itself
#include "kernels/simd/vec_scalar.h"
#endif

#define FUSEDCELL_TILE FUSEDCELL_NOINLINE

namespace fusedcell::FUSEDCELL_ISA {
namespace {

constexpr int kInputs = 1;
constexpr bool kOneRowAlone = false;
constexpr bool kGatesApart = kLanes == 1;    // where a fused multiply-add is a page of code
constexpr bool kPairsOfPanels = false;

FUSEDCELL_INLINE F32 LoadInputs(const float* x) { return Broadcast(*x); }
template <int>
FUSEDCELL_INLINE F32 MulAddInput(F32 w, F32 input, F32 acc) {
    return MulAdd(w, input, acc);
}

/// What dots share whose loop is plain (generic/dot.h).
template <class AnyElement>
struct PlainDot {
    using Element = AnyElement;
    using Weights = const Element*;
    static constexpr int kTogether = 1;
    static constexpr int kInputs = 1;

    static FUSEDCELL_INLINE const Element* WeightsAt(const Element* p) { return p; }
};

struct Float32Loads : PlainDot<float> {
    static FUSEDCELL_INLINE F32 WeightsAt(const float* p) { return Load(p); }
};
struct Bfloat16Loads : PlainDot<uint16_t> {
    static FUSEDCELL_INLINE F32 WeightsAt(const uint16_t* p) { return LoadBfloat16(p); }
};
struct Float16Loads : PlainDot<uint16_t> {
    static FUSEDCELL_INLINE F32 WeightsAt(const uint16_t* p) { return LoadFloat16(p); }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
