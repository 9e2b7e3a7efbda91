// Inputs to int8: x = scale * q, q in [-127, 127], rounded to nearest, ties to even.
//
//     kLargest     scale = m / 127 with m = max |x|;   q = x * (127 / m)
//     kBounded     the same if m > 1, else scale = 1 / 127, q = x * 127
//     kFixed       the given scale;                    q = clamp(x * (1 / scale), -127, 127)
//
// The rule looks at nothing but the vector itself, so it is the same however a sequence is cut. Where the scale is the
// vector's own, a vector below 2^-100 counts as zero: scale and q are 0. If it holds a NaN or an infinity, scale is NaN
// and q is 0, which makes every output of this row NaN and touches no other.
#pragma once

#include <string.h>

#include "kernels/generic/tier.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

/// The bits of max |x|, which is how floats without sign order, with NaN above infinity.
FUSEDCELL_INLINE int32_t LargestMagnitude(const float* x, ptrdiff_t size) {
    I32 magnitudes = ZeroI32();
    ptrdiff_t k = 0;
    for (; k + kLanes <= size; k += kLanes) magnitudes = MaxMagnitude(magnitudes, Load(x + k));
    if (k < size) magnitudes = MaxMagnitude(magnitudes, LoadFirst(x + k, size - k));
    return LargestLane(magnitudes);
}

/// q = x * factor, with zeros past the end up to a whole group and a whole vector. A fixed scale's factor may be too
/// large, so that q is clamped, and what LargestMagnitude would return comes with it: one pass does. A factor of
/// 127 / max |x| needs neither: it and the product are off by 2^-24 of themselves, and 127 (1 + 2^-22) rounds to 127.
template <bool kFixed, int kVectors = kNarrowed>
FUSEDCELL_INLINE int32_t StoreQuantised(const float* x, ptrdiff_t size, float factor, int8_t* q) {
    const F32 factors = Broadcast(factor);
    I32 magnitudes = ZeroI32();
    const auto scaled = [&](F32 values) {
        const F32 product = Mul(values, factors);
        if constexpr (kFixed) {
            magnitudes = MaxMagnitude(magnitudes, values);
            return Clamp(product, Broadcast(-127.0F), Broadcast(127.0F));
        } else {
            return product;
        }
    };
    ptrdiff_t k = 0;
    if constexpr (kVectors > 1) {
        for (; k + kVectors * kLanes <= size; k += kVectors * kLanes) {
            F32 values[kVectors];
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) values[v] = scaled(Load(x + k + v * kLanes));
            StoreInt8(q + k, values);
        }
    }
    for (; k + kLanes <= size; k += kLanes) StoreInt8(q + k, scaled(Load(x + k)));
    if (k < size) {
        StoreInt8(q + k, scaled(LoadFirst(x + k, size - k)));
        k += kLanes;
    }
    for (; k % QuantisedInput::kGroup != 0; ++k) q[k] = 0;
    return LargestLane(magnitudes);
}

FUSEDCELL_INLINE void StoreZeros(int8_t* q, ptrdiff_t size) {
    memset(q, 0, static_cast<size_t>(QuantisedInput::padded(size)));
}

/// Quantises by the vector's own magnitude and returns the scale.
FUSEDCELL_INLINE float QuantiseByLargest(const float* x, ptrdiff_t size, bool bounded, int8_t* q) {
    constexpr int32_t kOneBits = 0x3f800000;
    constexpr float kSmallest = 0x1p-100F;
    const int32_t bits = LargestMagnitude(x, size);
    const float largest = FloatOfBits(bits);
    if (bits >= kInfinityBits || (largest < kSmallest && !bounded)) {
        StoreZeros(q, size);
        return largest < kSmallest ? 0.0F : largest - largest;    // infinity and NaN both become NaN
    }
    if (bounded && bits <= kOneBits) {
        StoreQuantised<false>(x, size, 127.0F, q);
        return 1.0F / 127.0F;
    }
    StoreQuantised<false>(x, size, 127.0F / largest, q);
    return largest / 127.0F;
}

void Quantise(const QuantiseRow* rows, ptrdiff_t num_rows, ptrdiff_t size, InputScale scale) {
    for (ptrdiff_t r = 0; r < num_rows; ++r) {
        QuantisedInput* out = rows[r].q;
        if (scale.rule == InputScale::kFixed) {
            out->scale = scale.scale;
            const int32_t bits = StoreQuantised<true>(rows[r].x, size, 1.0F / scale.scale, out->values);
            if (bits < kInfinityBits) continue;
            out->scale = FloatOfBits(bits) - FloatOfBits(bits);
            StoreZeros(out->values, size);
        } else {
            out->scale = QuantiseByLargest(rows[r].x, size, scale.rule == InputScale::kBounded, out->values);
        }
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
