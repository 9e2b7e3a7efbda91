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

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
