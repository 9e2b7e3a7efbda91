// What a fused multiply-add by doubles does where a sum is rounded twice.
#pragma once

#include <stdint.h>
#include <string.h>

#include "kernels/simd/compiler.h"

#ifndef FUSEDCELL_ISA    // opened by itself
#define FUSEDCELL_ISA scalar
#endif

namespace fusedcell::FUSEDCELL_ISA {
namespace {

/// float(product + addend), rounded once.
///
/// The sum is rounded to odd: if it is inexact, its last bit is made 1, on the side of the true value. A double has
/// more than two bits beyond a float, so rounding that to float gives the correctly rounded result (Boldo and
/// Melquiond, "Emulation of a FMA and correctly rounded sums", 2008).
[[maybe_unused]] FUSEDCELL_NOINLINE float AddExactly(double product, double addend) {
    double sum = product + addend;
    // Knuth's two-sum: sum + error is exactly product + addend. It is NaN when the sum is not finite.
    const double addend_part = sum - product;
    const double error = (product - (sum - addend_part)) + (addend - addend_part);
    const bool inexact = (error > 0.0) | (error < 0.0);
    const bool away_from_zero = (error > 0.0) == (sum > 0.0);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    const uint64_t make_odd = static_cast<uint64_t>(inexact) & ~bits;
    bits += (make_odd & 1U) * (away_from_zero ? uint64_t{1} : ~uint64_t{0});
    memcpy(&sum, &bits, sizeof bits);
    return static_cast<float>(sum);
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
