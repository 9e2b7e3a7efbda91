// Inputs to integers: x = scale * q, q in [-n, n], rounded to nearest, ties to even; n is 127 or, of 16 bits, 127 *
// 128.
//
//     kLargest     scale = m / n with m = max |x|;           q = x * (n / m)
//     kBounded     the same if m > 1, else scale = 1 / n;    q = x * n
//     kFixed       the given scale * (127 / n);              q = clamp(x * (1 / scale), -n, n)
//
// 16 bits are kept as two planes of 8, q = 128 high + low, high in [-127, 127] and low in [-64, 64]. A fixed scale is
// that of 8 bits, so that what saturates is the same.
//
// The rule looks at nothing but the vector itself, so it is the same however a sequence is cut. Where the scale is the
// vector's own, a vector below 2^-100 counts as zero: scale and q are 0. If it holds a NaN or an infinity, scale is NaN
// and q is 0, which makes every output of this row NaN and touches no other.
#pragma once

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

template <int kPlanes>
constexpr float kLevels = kPlanes == 1 ? 127.0F : 127.0F * 128.0F;

/// To the nearest whole number, ties to even, of what is far below 2^22.
FUSEDCELL_INLINE F32 ToWhole(F32 a) {
    const F32 shift = Broadcast(0x1.8p23F);
    return Sub(Add(a, shift), shift);
}

/// kVectors vectors of products as integers, in each plane.
template <int kPlanes, int kVectors>
FUSEDCELL_INLINE void StoreProducts(int8_t* q, [[maybe_unused]] ptrdiff_t plane, F32 (&products)[kVectors]) {
    const auto store = [](int8_t* p, const F32(&values)[kVectors]) {
        if constexpr (kVectors == 1) {
            StoreInt8(p, values[0]);
        } else {
            StoreInt8(p, values);
        }
    };
    if constexpr (kPlanes == 2) {
        F32 high[kVectors];
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            const F32 whole = ToWhole(products[v]);
            high[v] = ToWhole(Mul(whole, Broadcast(1.0F / 128.0F)));
            products[v] = MulAdd(high[v], Broadcast(-128.0F), whole);
        }
        store(q, high);
        q += plane;
    }
    store(q, products);
}

/// q = x * factor, with zeros past the end up to a whole group and a whole vector. A fixed scale's factor may be too
/// large, so that q is clamped, and what LargestMagnitude would return comes with it: one pass does. A factor of
/// n / max |x| needs neither: it and the product are off by 2^-24 of themselves, and n (1 + 2^-22) rounds to n.
template <int kPlanes, bool kFixed, int kVectors = kNarrowed>
FUSEDCELL_INLINE int32_t StoreQuantised(const float* x, ptrdiff_t size, float factor, int8_t* q) {
    const F32 factors = Broadcast(factor);
    I32 magnitudes = ZeroI32();
    const ptrdiff_t plane = QuantisedInput::padded(size);
    const auto scaled = [&](F32 values) {
        const F32 product = Mul(values, factors);
        if constexpr (kFixed) {
            magnitudes = MaxMagnitude(magnitudes, values);
            return Clamp(product, Broadcast(-kLevels<kPlanes>), Broadcast(kLevels<kPlanes>));
        } else {
            return product;
        }
    };
    const auto store_one = [&](ptrdiff_t k, F32 values) {
        F32 products[1] = {scaled(values)};
        StoreProducts<kPlanes>(q + k, plane, products);
    };
    ptrdiff_t k = 0;
    if constexpr (kVectors > 1) {
        for (; k + kVectors * kLanes <= size; k += kVectors * kLanes) {
            F32 products[kVectors];
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) products[v] = scaled(Load(x + k + v * kLanes));
            StoreProducts<kPlanes>(q + k, plane, products);
        }
    }
    for (; k + kLanes <= size; k += kLanes) store_one(k, Load(x + k));
    if (k < size) {
        store_one(k, LoadFirst(x + k, size - k));
        k += kLanes;
    }
    for (; k % QuantisedInput::kGroup != 0; ++k) {
        for (int p = 0; p < kPlanes; ++p) q[p * plane + k] = 0;
    }
    return LargestLane(magnitudes);
}

template <int kPlanes>
FUSEDCELL_INLINE void StoreZeros(int8_t* q, ptrdiff_t size) {
    for (ptrdiff_t k = 0; k < kPlanes * QuantisedInput::padded(size); ++k) q[k] = 0;
}

/// Whether that largest magnitude is finite and not below 2^-100.
FUSEDCELL_INLINE bool HasScale(int32_t bits) {
    constexpr int32_t kSmallestBits = (127 - 100) << 23;
    return bits >= kSmallestBits && bits < kInfinityBits;
}

/// Quantises by the vector's largest magnitude, and returns its bits. If HasScale(bits) is false nothing has been done.
template <int kPlanes>
FUSEDCELL_INLINE int32_t QuantiseByLargest(const float* x, ptrdiff_t size, QuantisedInput* out) {
    const int32_t bits = LargestMagnitude(x, size);
    if (!HasScale(bits)) return bits;
    const float largest = FloatOfBits(bits);
    StoreQuantised<kPlanes, false>(x, size, kLevels<kPlanes> / largest, out->values);
    out->scale = largest / kLevels<kPlanes>;
    return bits;
}

/// Quantises as if the largest magnitude were 1; false if it is above that, and then `out` is of no use.
template <int kPlanes>
FUSEDCELL_INLINE bool QuantiseBounded(const float* x, ptrdiff_t size, QuantisedInput* out) {
    constexpr int32_t kOneBits = 0x3f800000;
    out->scale = 1.0F / kLevels<kPlanes>;
    return StoreQuantised<kPlanes, true>(x, size, kLevels<kPlanes>, out->values) <= kOneBits;
}

template <int kPlanes>
FUSEDCELL_INLINE void QuantiseOne(const float* x, ptrdiff_t size, const InputScale& scale, QuantisedInput* out) {
    int32_t bits = 0;
    if (scale.rule == InputScale::kFixed) {
        out->scale = scale.scale * (127.0F / kLevels<kPlanes>);
        bits = StoreQuantised<kPlanes, true>(x, size, 1.0F / out->scale, out->values);
        if (bits < kInfinityBits) return;
    } else {
        if (scale.rule == InputScale::kBounded && QuantiseBounded<kPlanes>(x, size, out)) return;
        bits = QuantiseByLargest<kPlanes>(x, size, out);
        if (HasScale(bits)) return;
    }
    StoreZeros<kPlanes>(out->values, size);
    const float largest = FloatOfBits(bits);
    out->scale = bits < kInfinityBits ? 0.0F : largest - largest;    // infinity and NaN both become NaN
}

template <int kPlanes>
void Quantise(const QuantiseRow* rows, ptrdiff_t num_rows, ptrdiff_t size, InputScale scale) {
    for (ptrdiff_t r = 0; r < num_rows; ++r) QuantiseOne<kPlanes>(rows[r].x, size, scale, rows[r].q);
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
