// 4 floats: x86 up to SSE4.1, which has no fused multiply-add.
#pragma once

#if !defined(_MSC_VER) && !defined(__SSE4_1__)
#error "compile this file with the sse41 tier's flags"
#endif

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/simd/compiler.h"

#ifndef FUSEDCELL_ISA    // opened by itself
#define FUSEDCELL_ISA sse41
#endif

#include "kernels/simd/add_exactly.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

using F32 = __m128;
constexpr int kLanes = 4;

// Tile shape. A chain takes two registers, as its numbers are doubles, and four hide the latency of their additions and
// conversions. Several rows would share no more than the loads of weights.
constexpr int kChains = 3;
constexpr int kTileRows = 1;
constexpr int kTallTileRows = kTileRows;
constexpr int kPrefetchRows = kTileRows + 1;    // never

FUSEDCELL_INLINE F32 Zero() { return _mm_setzero_ps(); }
FUSEDCELL_INLINE F32 Broadcast(float a) { return _mm_set1_ps(a); }
FUSEDCELL_INLINE F32 Load(const float* p) { return _mm_loadu_ps(p); }
FUSEDCELL_INLINE void Store(float* p, F32 a) { _mm_storeu_ps(p, a); }
FUSEDCELL_INLINE __m128i LoadHalves(const uint16_t* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }
FUSEDCELL_INLINE F32 LoadBfloat16(const uint16_t* p) {
    return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), LoadHalves(p)));
}
/// Exponents get the other bias, those of infinity and NaN twice the difference. A denormal half becomes 2^-14 more
/// than it is, of which 2^-14 is taken away.
FUSEDCELL_INLINE F32 LoadFloat16(const uint16_t* p) {
    const __m128i bias = _mm_set1_epi32((127 - 15) << 23);
    const __m128i half = _mm_unpacklo_epi16(LoadHalves(p), _mm_setzero_si128());
    const __m128i magnitude = _mm_and_si128(half, _mm_set1_epi32(0x7fff));
    const __m128i is_denormal = _mm_cmplt_epi32(magnitude, _mm_set1_epi32(0x400));
    const __m128i is_not_finite = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff));
    __m128i bits = _mm_add_epi32(_mm_slli_epi32(magnitude, 13), bias);
    bits = _mm_add_epi32(bits, _mm_and_si128(is_not_finite, bias));
    bits = _mm_add_epi32(bits, _mm_and_si128(is_denormal, _mm_set1_epi32(1 << 23)));
    const F32 too_much = _mm_and_ps(_mm_castsi128_ps(is_denormal), _mm_set1_ps(0x1p-14F));
    const __m128i sign = _mm_slli_epi32(_mm_xor_si128(half, magnitude), 16);
    return _mm_or_ps(_mm_sub_ps(_mm_castsi128_ps(bits), too_much), _mm_castsi128_ps(sign));
}

/// Not as a double, whose alignment two floats need not have; the remaining lanes are zero.
FUSEDCELL_INLINE F32 LoadTwo(const float* p) {
    return _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
/// Loads n < kLanes floats and reads no others; the remaining lanes are zero.
FUSEDCELL_INLINE F32 LoadFirst(const float* p, ptrdiff_t n) {
    if (n < 2) return n == 1 ? _mm_load_ss(p) : Zero();
    const F32 two = LoadTwo(p);
    return n == 2 ? two : _mm_movelh_ps(two, _mm_load_ss(p + 2));
}
FUSEDCELL_INLINE void StoreFirst(float* p, F32 a, ptrdiff_t n) {
    if (n == 1) _mm_store_ss(p, a);
    if (n >= 2) _mm_storel_pi(reinterpret_cast<__m64*>(p), a);
    if (n == 3) _mm_store_ss(p + 2, _mm_movehl_ps(a, a));
}

FUSEDCELL_INLINE F32 Add(F32 a, F32 b) { return _mm_add_ps(a, b); }
FUSEDCELL_INLINE F32 Sub(F32 a, F32 b) { return _mm_sub_ps(a, b); }
FUSEDCELL_INLINE F32 Mul(F32 a, F32 b) { return _mm_mul_ps(a, b); }
FUSEDCELL_INLINE F32 Div(F32 a, F32 b) { return _mm_div_ps(a, b); }
FUSEDCELL_INLINE F32 Sqrt(F32 a) { return _mm_sqrt_ps(a); }

/// Four floats as doubles.
struct Doubles {
    __m128d low;
    __m128d high;
};
FUSEDCELL_INLINE Doubles Widen(F32 a) { return {_mm_cvtps_pd(a), _mm_cvtps_pd(_mm_movehl_ps(a, a))}; }
FUSEDCELL_INLINE F32 Narrow(const Doubles& a) { return _mm_movelh_ps(_mm_cvtpd_ps(a.low), _mm_cvtpd_ps(a.high)); }
FUSEDCELL_INLINE Doubles Round(const Doubles& a) {
    return {_mm_cvtps_pd(_mm_cvtpd_ps(a.low)), _mm_cvtps_pd(_mm_cvtpd_ps(a.high))};
}
FUSEDCELL_INLINE Doubles Add(const Doubles& a, const Doubles& b) {
    return {_mm_add_pd(a.low, b.low), _mm_add_pd(a.high, b.high)};
}
FUSEDCELL_INLINE Doubles Mul(const Doubles& a, const Doubles& b) {
    return {_mm_mul_pd(a.low, b.low), _mm_mul_pd(a.high, b.high)};
}

/// The lower 32 bits of each.
FUSEDCELL_INLINE __m128i LowerHalves(const Doubles& a) {
    return _mm_castps_si128(_mm_shuffle_ps(_mm_castpd_ps(a.low), _mm_castpd_ps(a.high), 0x88));
}
/// Which doubles are the middle of two floats: their last 29 bits are 1 0...0.
FUSEDCELL_INLINE __m128i Middles(const Doubles& a) {
    return _mm_cmpeq_epi32(_mm_slli_epi32(LowerHalves(a), 3), _mm_set1_epi32(INT32_MIN));
}
FUSEDCELL_INLINE bool AnyOf(__m128i lanes) { return _mm_movemask_ps(_mm_castsi128_ps(lanes)) != 0; }

/// Which sums of two doubles are inexact, by Knuth's two-sum.
FUSEDCELL_INLINE __m128d Inexact(__m128d a, __m128d b, __m128d sum) {
    const __m128d part = _mm_sub_pd(sum, a);
    const __m128d error = _mm_add_pd(_mm_sub_pd(a, _mm_sub_pd(sum, part)), _mm_sub_pd(b, part));
    return _mm_cmpneq_pd(error, _mm_setzero_pd());
}

/// a * b + c with one rounding, lane by lane.
[[maybe_unused]] FUSEDCELL_NOINLINE F32 MulAddExactly(F32 a, F32 b, F32 c) {
    float lanes[3][kLanes];
    Store(lanes[0], a);
    Store(lanes[1], b);
    Store(lanes[2], c);
    for (int i = 0; i < kLanes; ++i) {
        lanes[2][i] = AddExactly(static_cast<double>(lanes[0][i]) * static_cast<double>(lanes[1][i]),
                                 static_cast<double>(lanes[2][i]));
    }
    return Load(lanes[2]);
}

/// a * b + c with one rounding, in the mode of float_mode.h.
///
/// The product of two floats is exact in double. To round their sum twice is wrong only where the first rounding has
/// made it the middle of two floats. Sums too small for a float are flushed, by their size after rounding to its 24
/// bits, as a fused multiply-add does. Out of line, because it is some thirty instructions.
[[maybe_unused]] FUSEDCELL_NOINLINE F32 MulAdd(F32 a, F32 b, F32 c) {
    const Doubles sum = Add(Mul(Widen(a), Widen(b)), Widen(c));
    if (FUSEDCELL_RARE(AnyOf(Middles(sum)))) return MulAddExactly(a, b, c);
    return Narrow(sum);
}

/// The polynomial in f of these coefficients, from that of the highest power on, by Horner's rule: a MulAdd each, of
/// which none may round twice wrongly. Of 2^f - 1 none does, for any float up to 0.51 (test_multiply_adds.cc).
template <int kCount>
FUSEDCELL_NOINLINE F32 HornerByDoubles(const float (&coefficients)[kCount], F32 f) {
    const Doubles factor = Widen(f);
    const auto coefficient = [&](int i) {
        const __m128d both = _mm_set1_pd(static_cast<double>(coefficients[i]));
        return Doubles{both, both};
    };
    Doubles sum = coefficient(0);
    FUSEDCELL_UNROLL
    for (int i = 1; i < kCount; ++i) sum = Round(Add(Mul(sum, factor), coefficient(i)));
    return Narrow(sum);
}

/// sum += a * b, rounded to float. Returns whether a lane may have been rounded wrongly.
FUSEDCELL_INLINE bool AddProduct(Doubles& sum, const Doubles& a, const Doubles& b) {
    const Doubles product = Mul(a, b);
    const Doubles exact = Add(product, sum);
    const __m128i middles = Middles(exact);
    bool wrong = false;
    if (FUSEDCELL_RARE(AnyOf(middles))) {
        const Doubles inexact = {Inexact(product.low, sum.low, exact.low), Inexact(product.high, sum.high, exact.high)};
        wrong = AnyOf(_mm_and_si128(middles, LowerHalves(inexact)));
    }
    sum = Round(exact);
    return wrong;
}

/// NaN stays NaN: x86 min and max return their second operand when either is NaN.
FUSEDCELL_INLINE F32 Clamp(F32 a, F32 low, F32 high) { return _mm_min_ps(high, _mm_max_ps(low, a)); }
/// Positive values and NaN pass; everything else, -0 included, becomes +0.
FUSEDCELL_INLINE F32 Relu(F32 a) { return _mm_and_ps(a, _mm_cmpnle_ps(a, Zero())); }
/// x where a < b, else y, also where either is NaN.
FUSEDCELL_INLINE F32 SelectLess(F32 a, F32 b, F32 x, F32 y) { return _mm_blendv_ps(y, x, _mm_cmplt_ps(a, b)); }

using I32 = __m128i;
FUSEDCELL_INLINE I32 ZeroI32() { return _mm_setzero_si128(); }
FUSEDCELL_INLINE F32 ToFloat(I32 a) { return _mm_cvtepi32_ps(a); }
/// The larger of `a` and the bits of |b|. Bits of floats without sign order as the floats do, with NaN above infinity.
FUSEDCELL_INLINE I32 MaxMagnitude(I32 a, F32 b) {
    return _mm_max_epi32(a, _mm_and_si128(_mm_castps_si128(b), _mm_set1_epi32(0x7fffffff)));
}
FUSEDCELL_INLINE int32_t LargestLane(I32 a) {
    a = _mm_max_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(a, _mm_shuffle_epi32(a, 0xb1)));
}
/// `a`, and 1 more in each lane in which b is not zero, as NaN is not.
FUSEDCELL_INLINE I32 CountNonzero(I32 a, F32 b) { return _mm_sub_epi32(a, _mm_castps_si128(_mm_cmpneq_ps(Zero(), b))); }
/// Rounds to nearest, ties to even, and stores one byte a lane.
FUSEDCELL_INLINE void StoreInt8(int8_t* p, F32 a) {
    const __m128i words = _mm_packs_epi32(_mm_cvtps_epi32(a), _mm_setzero_si128());
    const int32_t bytes = _mm_cvtsi128_si32(_mm_packs_epi16(words, words));
    memcpy(p, &bytes, sizeof bytes);
}

/// The same of so many vectors.
constexpr int kNarrowed = 4;
FUSEDCELL_INLINE void StoreInt8(int8_t* p, const F32 (&a)[kNarrowed]) {
    const __m128i low = _mm_packs_epi32(_mm_cvtps_epi32(a[0]), _mm_cvtps_epi32(a[1]));
    const __m128i high = _mm_packs_epi32(_mm_cvtps_epi32(a[2]), _mm_cvtps_epi32(a[3]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(low, high));
}

/// 2^n for the integer n that the low bits of `a` hold (see Exp2 in generic/activations.h).
FUSEDCELL_INLINE F32 PowerOfTwo(F32 a) {
    const __m128i exponent = _mm_slli_epi32(_mm_castps_si128(a), 23);
    return _mm_castsi128_ps(_mm_add_epi32(exponent, _mm_set1_epi32(0x3f800000)));
}

// A positive normal a is Mantissa(a) * 2^Exponent(a), with Mantissa(a) from sqrt(1/2) on and below twice that.
constexpr int kRootHalf = 0x3f3504f3;
FUSEDCELL_INLINE __m128i AboveRootHalf(F32 a) { return _mm_sub_epi32(_mm_castps_si128(a), _mm_set1_epi32(kRootHalf)); }
FUSEDCELL_INLINE F32 Exponent(F32 a) { return _mm_cvtepi32_ps(_mm_srai_epi32(AboveRootHalf(a), 23)); }
FUSEDCELL_INLINE F32 Mantissa(F32 a) {
    const __m128i bits = _mm_and_si128(AboveRootHalf(a), _mm_set1_epi32(0x7fffff));
    return _mm_castsi128_ps(_mm_add_epi32(bits, _mm_set1_epi32(kRootHalf)));
}

/// Lane i gets lane i ^ kDistance.
template <int kDistance>
FUSEDCELL_INLINE F32 Exchanged(F32 a) {
    return _mm_shuffle_ps(a, a, kDistance == 2 ? 0x4e : 0xb1);
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
