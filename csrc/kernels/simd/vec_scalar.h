// One float, any machine. The same operations in the same order as the vector tiers, fused multiply-add included.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#elif defined(__aarch64__) || defined(_M_ARM64)
#include <arm_neon.h>
#endif

#include "kernels/simd/compiler.h"

#ifndef FUSEDCELL_ISA    // opened by itself
#define FUSEDCELL_ISA scalar
#endif

#include "kernels/simd/add_exactly.h"

// A step is multiply-adds and little else, of which two passes have as many.
#define FUSEDCELL_TWO_PASSES

namespace fusedcell::FUSEDCELL_ISA {
namespace {

using F32 = float;
constexpr int kLanes = 1;

// Tile shape. One row: kChains independent FMA chains hide the latency of the FMA units and share each broadcast.
// Several rows: kTileRows x 4 accumulators, kTileRows broadcasts and a weight vector fill the register file.
constexpr int kChains = 4;
constexpr int kTileRows = 2;
constexpr int kTallTileRows = kTileRows;
constexpr int kPrefetchRows = kTileRows + 1;    // never

FUSEDCELL_INLINE F32 Zero() { return 0.0F; }
FUSEDCELL_INLINE F32 Broadcast(float a) { return a; }
FUSEDCELL_INLINE F32 Load(const float* p) { return *p; }
FUSEDCELL_INLINE void Store(float* p, F32 a) { *p = a; }
FUSEDCELL_INLINE F32 FromBits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
FUSEDCELL_INLINE F32 LoadBfloat16(const uint16_t* p) { return FromBits(uint32_t{*p} << 16); }
FUSEDCELL_INLINE F32 LoadFloat16(const uint16_t* p) {
    const uint32_t sign = (uint32_t{*p} & 0x8000U) << 16;
    const uint32_t exponent = (uint32_t{*p} >> 10) & 0x1fU;
    const uint32_t mantissa = uint32_t{*p} & 0x3ffU;
    if (exponent == 0) {    // zero, or a denormal half, which is an ordinary float
        const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
        return sign != 0 ? -magnitude : magnitude;
    }
    const uint32_t wide_exponent = exponent == 0x1fU ? 0xffU : exponent + (127 - 15);
    return FromBits(sign | (wide_exponent << 23) | (mantissa << 13));
}
// A vector of one lane has no partial form; these complete the set of operations.
FUSEDCELL_INLINE F32 LoadFirst(const float*, ptrdiff_t) { return 0.0F; }
FUSEDCELL_INLINE void StoreFirst(float*, F32, ptrdiff_t) {}

FUSEDCELL_INLINE F32 Add(F32 a, F32 b) { return a + b; }
FUSEDCELL_INLINE F32 Sub(F32 a, F32 b) { return a - b; }
FUSEDCELL_INLINE F32 Mul(F32 a, F32 b) { return a * b; }
FUSEDCELL_INLINE F32 Div(F32 a, F32 b) { return a / b; }
/// The library's function would set errno; an instruction does not.
FUSEDCELL_INLINE F32 Sqrt(F32 a) {
#if defined(__x86_64__) || defined(_M_X64)
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a)));
#elif defined(__aarch64__) || defined(_M_ARM64)
    return vget_lane_f32(vsqrt_f32(vdup_n_f32(a)), 0);
#else
    float root;
    __asm__("vsqrt.f32 %0, %1" : "=t"(root) : "t"(a));
    return root;
#endif
}

/// a * b + c with one rounding, also where the CPU has no such instruction.
///
/// The product of two floats is exact in double. To round their sum twice is wrong only where the first rounding has
/// made it the middle of two floats, whose last 29 bits are 1 0...0, or where floats have fewer bits, below 2^-126; to
/// 2^-126 itself it may have come from below, which ARM flushes by.
FUSEDCELL_INLINE F32 MulAdd(F32 a, F32 b, F32 c) {
#if defined(__ARM_FEATURE_FMA) && defined(__GNUC__)
    return __builtin_fmaf(a, b, c);
#else
    constexpr uint64_t kLastBits = (uint64_t{1} << 29) - 1;
    constexpr uint64_t kSmallestNormal = uint64_t{1023 - 126} << 53;    // without its sign
    const double product = static_cast<double>(a) * static_cast<double>(b);
    const double sum = product + static_cast<double>(c);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    const bool is_tiny = 2 * bits - 1 < kSmallestNormal;    // and not zero
    if ((bits & kLastBits) == kLastBits / 2 + 1 || is_tiny) return AddExactly(product, c);
    return static_cast<float>(sum);
#endif
}

/// NaN stays NaN: both comparisons are false for it.
FUSEDCELL_INLINE F32 Clamp(F32 a, F32 low, F32 high) { return a < low ? low : (a > high ? high : a); }
/// Positive values and NaN pass; everything else, -0 included, becomes +0.
FUSEDCELL_INLINE F32 Relu(F32 a) { return a <= 0.0F ? 0.0F : a; }
/// x where a < b, else y, also where either is NaN.
FUSEDCELL_INLINE F32 SelectLess(F32 a, F32 b, F32 x, F32 y) { return a < b ? x : y; }
using I32 = int32_t;
FUSEDCELL_INLINE I32 ZeroI32() { return 0; }
FUSEDCELL_INLINE F32 ToFloat(I32 a) { return static_cast<float>(a); }
/// The larger of `a` and the bits of |b|. Bits of floats without sign order as the floats do, with NaN above infinity.
FUSEDCELL_INLINE I32 MaxMagnitude(I32 a, F32 b) {
    int32_t bits;
    memcpy(&bits, &b, sizeof bits);
    bits &= 0x7fffffff;
    return a > bits ? a : bits;
}
FUSEDCELL_INLINE int32_t LargestLane(I32 a) { return a; }
/// `a`, and 1 more in each lane in which b is not zero, as NaN is not.
FUSEDCELL_INLINE I32 CountNonzero(I32 a, F32 b) { return b != 0.0F ? a + 1 : a; }
/// Rounds to nearest, ties to even, and stores one byte: 1.5 * 2^23 + a has the integer in its low bits.
FUSEDCELL_INLINE void StoreInt8(int8_t* p, F32 a) {
    const float shifted = a + 0x1.8p23F;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    *p = static_cast<int8_t>(bits);
}

constexpr int kNarrowed = 1;

/// 2^n for the integer n that the low bits of `a` hold (see Exp2 in generic/activations.h).
FUSEDCELL_INLINE F32 PowerOfTwo(F32 a) {
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    return FromBits((bits << 23) + 0x3f800000U);
}

// A positive normal a is Mantissa(a) * 2^Exponent(a), with Mantissa(a) from sqrt(1/2) on and below twice that.
constexpr uint32_t kRootHalf = 0x3f3504f3;
FUSEDCELL_INLINE uint32_t AboveRootHalf(F32 a) {
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    return bits - kRootHalf;
}
// The exponent with its bias added is not negative, so that its bits may be moved.
FUSEDCELL_INLINE F32 Exponent(F32 a) {
    return static_cast<float>(static_cast<int32_t>((AboveRootHalf(a) + 0x3f800000U) >> 23) - 127);
}
FUSEDCELL_INLINE F32 Mantissa(F32 a) { return FromBits((AboveRootHalf(a) & 0x7fffffU) + kRootHalf); }

/// Lane i gets lane i ^ kDistance, of which a vector of one lane has none.
template <int kDistance>
FUSEDCELL_INLINE F32 Exchanged(F32 a) {
    return a;
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
