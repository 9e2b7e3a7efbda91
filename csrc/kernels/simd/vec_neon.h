// 4 floats: the AArch64 baseline.
#pragma once

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/simd/compiler.h"

#ifndef FUSEDCELL_ISA    // opened by itself
#define FUSEDCELL_ISA neon
#endif

namespace fusedcell::FUSEDCELL_ISA {
namespace {

using F32 = float32x4_t;
constexpr int kLanes = 4;

// Tile shape. One row: kChains independent FMA chains hide the latency of the FMA units and share each broadcast.
// Several rows: kTileRows x 4 accumulators, kTileRows broadcasts and a weight vector fill the register file.
constexpr int kChains = 16;
constexpr int kTileRows = 6;
constexpr int kTallTileRows = kTileRows;
constexpr int kPrefetchRows = kTileRows + 1;    // never

FUSEDCELL_INLINE F32 Zero() { return vdupq_n_f32(0.0F); }
FUSEDCELL_INLINE F32 Broadcast(float a) { return vdupq_n_f32(a); }
FUSEDCELL_INLINE F32 Load(const float* p) { return vld1q_f32(p); }
FUSEDCELL_INLINE void Store(float* p, F32 a) { vst1q_f32(p, a); }

/// Loads n < kLanes floats and reads no others; the remaining lanes are zero. Lane by lane, because a compiler makes a
/// call of memcpy of a loop, and a call loses the constants that vector registers hold.
FUSEDCELL_INLINE F32 LoadFirst(const float* p, ptrdiff_t n) {
    F32 a = Zero();
    if (n >= 1) a = vld1q_lane_f32(p, a, 0);
    if (n >= 2) a = vld1q_lane_f32(p + 1, a, 1);
    if (n >= 3) a = vld1q_lane_f32(p + 2, a, 2);
    return a;
}
FUSEDCELL_INLINE void StoreFirst(float* p, F32 a, ptrdiff_t n) {
    if (n >= 1) vst1q_lane_f32(p, a, 0);
    if (n >= 2) vst1q_lane_f32(p + 1, a, 1);
    if (n >= 3) vst1q_lane_f32(p + 2, a, 2);
}

FUSEDCELL_INLINE F32 Add(F32 a, F32 b) { return vaddq_f32(a, b); }
FUSEDCELL_INLINE F32 Sub(F32 a, F32 b) { return vsubq_f32(a, b); }
FUSEDCELL_INLINE F32 Mul(F32 a, F32 b) { return vmulq_f32(a, b); }
FUSEDCELL_INLINE F32 Div(F32 a, F32 b) { return vdivq_f32(a, b); }
FUSEDCELL_INLINE F32 Sqrt(F32 a) { return vsqrtq_f32(a); }
/// a * b + c with one rounding.
FUSEDCELL_INLINE F32 MulAdd(F32 a, F32 b, F32 c) { return vfmaq_f32(c, a, b); }
/// NaN stays NaN: FMIN and FMAX return NaN when either operand is NaN.
FUSEDCELL_INLINE F32 Clamp(F32 a, F32 low, F32 high) { return vminq_f32(high, vmaxq_f32(low, a)); }
/// Positive values and NaN pass; everything else, -0 included, becomes +0.
FUSEDCELL_INLINE F32 Relu(F32 a) {
    const uint32x4_t not_positive = vcleq_f32(a, Zero());
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), not_positive));
}
/// x where a < b, else y, also where either is NaN.
FUSEDCELL_INLINE F32 SelectLess(F32 a, F32 b, F32 x, F32 y) { return vbslq_f32(vcltq_f32(a, b), x, y); }
using I32 = int32x4_t;
FUSEDCELL_INLINE I32 ZeroI32() { return vdupq_n_s32(0); }
FUSEDCELL_INLINE F32 ToFloat(I32 a) { return vcvtq_f32_s32(a); }
/// The larger of `a` and the bits of |b|. Bits of floats without sign order as the floats do, with NaN above infinity.
FUSEDCELL_INLINE I32 MaxMagnitude(I32 a, F32 b) {
    return vmaxq_s32(a, vandq_s32(vreinterpretq_s32_f32(b), vdupq_n_s32(0x7fffffff)));
}
FUSEDCELL_INLINE int32_t LargestLane(I32 a) { return vmaxvq_s32(a); }
/// `a`, and 1 more in each lane in which b is not zero, as NaN is not.
FUSEDCELL_INLINE I32 CountNonzero(I32 a, F32 b) {
    return vsubq_s32(a, vreinterpretq_s32_u32(vmvnq_u32(vceqzq_f32(b))));
}
/// Rounds to nearest, ties to even, and stores one byte a lane.
FUSEDCELL_INLINE void StoreInt8(int8_t* p, F32 a) {
    const int16x4_t words = vmovn_s32(vcvtnq_s32_f32(a));
    const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
    vst1_lane_s32(reinterpret_cast<int32_t*>(p), vreinterpret_s32_s8(bytes), 0);
}

/// The same of so many vectors; the low halves of lanes are those with even numbers.
constexpr int kNarrowed = 4;
FUSEDCELL_INLINE void StoreInt8(int8_t* p, const F32 (&a)[kNarrowed]) {
    const auto words = [&](int i) {
        return vuzp1q_s16(vreinterpretq_s16_s32(vcvtnq_s32_f32(a[i])), vreinterpretq_s16_s32(vcvtnq_s32_f32(a[i + 1])));
    };
    vst1q_s8(p, vuzp1q_s8(vreinterpretq_s8_s16(words(0)), vreinterpretq_s8_s16(words(2))));
}

/// 2^n for the integer n that the low bits of `a` hold (see Exp2 in generic/activations.h).
FUSEDCELL_INLINE F32 PowerOfTwo(F32 a) {
    const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(a), 23);
    return vreinterpretq_f32_u32(vaddq_u32(exponent, vdupq_n_u32(0x3f800000)));
}

// A positive normal a is Mantissa(a) * 2^Exponent(a), with Mantissa(a) from sqrt(1/2) on and below twice that.
constexpr int kRootHalf = 0x3f3504f3;
FUSEDCELL_INLINE int32x4_t AboveRootHalf(F32 a) { return vsubq_s32(vreinterpretq_s32_f32(a), vdupq_n_s32(kRootHalf)); }
FUSEDCELL_INLINE F32 Exponent(F32 a) { return vcvtq_f32_s32(vshrq_n_s32(AboveRootHalf(a), 23)); }
FUSEDCELL_INLINE F32 Mantissa(F32 a) {
    const int32x4_t bits = vandq_s32(AboveRootHalf(a), vdupq_n_s32(0x7fffff));
    return vreinterpretq_f32_s32(vaddq_s32(bits, vdupq_n_s32(kRootHalf)));
}

/// Lane i gets lane i ^ kDistance.
template <int kDistance>
FUSEDCELL_INLINE F32 Exchanged(F32 a) {
    if constexpr (kDistance == 2) {
        return vextq_f32(a, a, 2);
    } else {
        return vrev64q_f32(a);
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
