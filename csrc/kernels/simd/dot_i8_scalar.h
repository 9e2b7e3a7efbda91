// Dot products of four int8 with four int8, one lane.
#pragma once

#include <string.h>

#include "kernels/simd/vec_scalar.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

struct Dot {
    using Accumulator = int32_t;
    struct Input {
        int32_t x[4];
    };
    static constexpr bool kCompensated = false;
    static constexpr int kChains = 4;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t*) { return 0; }
    static FUSEDCELL_INLINE Input Broadcast4(const int8_t* x) { return {{x[0], x[1], x[2], x[3]}}; }
    static FUSEDCELL_INLINE Accumulator Dot4(Accumulator acc, const int8_t* w, const Input& in) {
        return acc + w[0] * in.x[0] + w[1] * in.x[1] + w[2] * in.x[2] + w[3] * in.x[3];
    }
    static FUSEDCELL_INLINE F32 ToFloat(Accumulator acc) { return static_cast<float>(acc); }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
