// Weights one vector at a time and inputs one broadcast at a time, for tiers whose multiply-adds take them from memory.
// Dot products include it after their vector type.
#pragma once

#include "kernels/simd/plain_dot.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

constexpr bool kOneRowAlone = false;
constexpr bool kGatesApart = kLanes == 1;    // where a fused multiply-add is a page of code
constexpr bool kGroupsFarRows = kLanes > 1;

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
