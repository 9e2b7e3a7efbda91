// 8 floats: AVX2, FMA and F16C.
#pragma once

#if !defined(_MSC_VER) && !(defined(__AVX2__) && defined(__FMA__) && defined(__F16C__))
#error "compile this file with the avx2 tier's flags"
#endif

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/simd/compiler.h"

#ifndef FUSEDCELL_ISA    // opened by itself
#define FUSEDCELL_ISA avx2
#endif

namespace fusedcell::FUSEDCELL_ISA {
namespace {

using F32 = __m256;
constexpr int kLanes = 8;

// Tile shape. One row: kChains independent FMA chains hide the latency of the FMA units and share each broadcast.
// Several rows: kTileRows x 4 accumulators, kTileRows broadcasts and a weight vector fill the register file.
constexpr int kChains = 8;
constexpr int kTileRows = 3;
constexpr int kTallTileRows = kTileRows;
constexpr int kPrefetchRows = kTileRows + 1;    // never

FUSEDCELL_INLINE F32 Zero() { return _mm256_setzero_ps(); }
FUSEDCELL_INLINE F32 Broadcast(float a) { return _mm256_set1_ps(a); }
FUSEDCELL_INLINE F32 Load(const float* p) { return _mm256_loadu_ps(p); }
FUSEDCELL_INLINE void Store(float* p, F32 a) { _mm256_storeu_ps(p, a); }
FUSEDCELL_INLINE F32 LoadBfloat16(const uint16_t* p) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
FUSEDCELL_INLINE F32 LoadFloat16(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

FUSEDCELL_INLINE __m256i FirstLanes(ptrdiff_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
}
/// Loads n < kLanes floats and reads no others; the remaining lanes are zero.
FUSEDCELL_INLINE F32 LoadFirst(const float* p, ptrdiff_t n) { return _mm256_maskload_ps(p, FirstLanes(n)); }
FUSEDCELL_INLINE void StoreFirst(float* p, F32 a, ptrdiff_t n) { _mm256_maskstore_ps(p, FirstLanes(n), a); }

FUSEDCELL_INLINE F32 Add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
FUSEDCELL_INLINE F32 Sub(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
FUSEDCELL_INLINE F32 Mul(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
FUSEDCELL_INLINE F32 Div(F32 a, F32 b) { return _mm256_div_ps(a, b); }
FUSEDCELL_INLINE F32 Sqrt(F32 a) { return _mm256_sqrt_ps(a); }
/// a * b + c with one rounding.
FUSEDCELL_INLINE F32 MulAdd(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
/// NaN stays NaN: x86 min and max return their second operand when either is NaN.
FUSEDCELL_INLINE F32 Clamp(F32 a, F32 low, F32 high) { return _mm256_min_ps(high, _mm256_max_ps(low, a)); }
/// Positive values and NaN pass; everything else, -0 included, becomes +0.
FUSEDCELL_INLINE F32 Relu(F32 a) { return _mm256_and_ps(a, _mm256_cmp_ps(a, Zero(), _CMP_NLE_UQ)); }
/// x where a < b, else y, also where either is NaN.
FUSEDCELL_INLINE F32 SelectLess(F32 a, F32 b, F32 x, F32 y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
// A vector of int rather than of 64-bit words, as the intrinsics have it: between the two GCC copies accumulators, and
// keeps a copy on the stack in every turn of a loop.
#if defined(_MSC_VER) && !defined(__clang__)
using I32 = __m256i;
#else
using I32 = __v8si;
#endif
FUSEDCELL_INLINE I32 ToI32(__m256i a) { return (I32)a; }
FUSEDCELL_INLINE __m256i Bits(I32 a) { return (__m256i)a; }
FUSEDCELL_INLINE I32 ZeroI32() { return ToI32(_mm256_setzero_si256()); }
FUSEDCELL_INLINE F32 ToFloat(I32 a) { return _mm256_cvtepi32_ps(Bits(a)); }
/// The larger of `a` and the bits of |b|. Bits of floats without sign order as the floats do, with NaN above infinity.
FUSEDCELL_INLINE I32 MaxMagnitude(I32 a, F32 b) {
    return ToI32(_mm256_max_epi32(Bits(a), _mm256_and_si256(_mm256_castps_si256(b), _mm256_set1_epi32(0x7fffffff))));
}
FUSEDCELL_INLINE int32_t LargestLane(I32 a) {
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(Bits(a)), _mm256_extracti128_si256(Bits(a), 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    return _mm_cvtsi128_si32(m);
}
/// `a`, and 1 more in each lane in which b is not zero, as NaN is not.
FUSEDCELL_INLINE I32 CountNonzero(I32 a, F32 b) {
    return ToI32(_mm256_sub_epi32(Bits(a), _mm256_castps_si256(_mm256_cmp_ps(Zero(), b, _CMP_NEQ_UQ))));
}
/// Rounds to nearest, ties to even, and stores one byte a lane.
FUSEDCELL_INLINE void StoreInt8(int8_t* p, F32 a) {
    const __m256i wide = _mm256_cvtps_epi32(a);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}

/// The same of so many vectors. Packing works in halves of 128 bits: the four bytes of a lane group come out in the
/// order 0 2 4 6 1 3 5 7.
constexpr int kNarrowed = 4;
FUSEDCELL_INLINE void StoreInt8(int8_t* p, const F32 (&a)[kNarrowed]) {
    const __m256i low = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
    const __m256i high = _mm256_packs_epi32(_mm256_cvtps_epi32(a[2]), _mm256_cvtps_epi32(a[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bytes);
}

/// 2^n for the integer n that the low bits of `a` hold (see Exp2 in generic/activations.h).
FUSEDCELL_INLINE F32 PowerOfTwo(F32 a) {
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(a), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(0x3f800000)));
}

// A positive normal a is Mantissa(a) * 2^Exponent(a), with Mantissa(a) from sqrt(1/2) on and below twice that.
constexpr int kRootHalf = 0x3f3504f3;
FUSEDCELL_INLINE __m256i AboveRootHalf(F32 a) {
    return _mm256_sub_epi32(_mm256_castps_si256(a), _mm256_set1_epi32(kRootHalf));
}
FUSEDCELL_INLINE F32 Exponent(F32 a) { return _mm256_cvtepi32_ps(_mm256_srai_epi32(AboveRootHalf(a), 23)); }
FUSEDCELL_INLINE F32 Mantissa(F32 a) {
    const __m256i bits = _mm256_and_si256(AboveRootHalf(a), _mm256_set1_epi32(0x7fffff));
    return _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_set1_epi32(kRootHalf)));
}

/// Lane i gets lane i ^ kDistance.
template <int kDistance>
FUSEDCELL_INLINE F32 Exchanged(F32 a) {
    if constexpr (kDistance == 4) {
        return _mm256_permute2f128_ps(a, a, 1);
    } else {
        return _mm256_permute_ps(a, kDistance == 2 ? 0x4e : 0xb1);
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
