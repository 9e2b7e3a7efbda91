// The tier that is compiled: a file in isa/ includes its dot products, and with them its vector type, before anything
// else. A header that is opened by itself is the scalar tier's.
#pragma once

#include "kernels/kernel_api.h"

#ifndef FUSEDCELL_ISA
#include "kernels/simd/dot_i8_scalar.h"
#endif

#include <string.h>

namespace fusedcell::FUSEDCELL_ISA {
namespace {

constexpr int32_t kInfinityBits = 0x7f800000;

FUSEDCELL_INLINE float FloatOfBits(int32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/// a * b + c where a * b needs no rounding, or c is 0 and the product not too small: a tier whose MulAdd is slow has
/// another way to the same.
template <class V>
FUSEDCELL_INLINE V MulAddOnce(V a, V b, V c) {
#ifdef FUSEDCELL_DOUBLES
    return Add(Mul(a, b), c);
#else
    return MulAdd(a, b, c);
#endif
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
