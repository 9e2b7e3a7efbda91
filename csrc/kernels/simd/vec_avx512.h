// 16 floats: AVX-512 F, BW, DQ, VL.
#pragma once

#if !defined(_MSC_VER) && !(defined(__AVX512F__) && defined(__AVX512DQ__))
#error "compile this file with the avx512 tier's flags"
#endif

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/simd/compiler.h"

#ifndef FUSEDCELL_ISA    // opened by itself
#define FUSEDCELL_ISA avx512
#endif

namespace fusedcell::FUSEDCELL_ISA {
namespace {

using F32 = __m512;
constexpr int kLanes = 16;

// Tile shape. One row: kChains independent FMA chains hide the latency of the FMA units and share each broadcast.
// Several rows: kTileRows x 4 accumulators, kTileRows broadcasts and a weight vector fill the register file.
constexpr int kChains = 8;
constexpr int kTileRows = 6;
// Floats have tiles of so many rows and 3 vectors, too, which read a batch of eight rows' matrix once, not twice.
constexpr int kTallTileRows = 8;
// From so many rows on a tile multiplies at about the rate at which the outer caches can give it floats, and the CPU's
// own prefetching does not keep up beside that.
constexpr int kPrefetchRows = 4;

FUSEDCELL_INLINE F32 Zero() { return _mm512_setzero_ps(); }
FUSEDCELL_INLINE F32 Broadcast(float a) { return _mm512_set1_ps(a); }
FUSEDCELL_INLINE F32 Load(const float* p) { return _mm512_loadu_ps(p); }
FUSEDCELL_INLINE void Store(float* p, F32 a) { _mm512_storeu_ps(p, a); }
FUSEDCELL_INLINE F32 LoadBfloat16(const uint16_t* p) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
FUSEDCELL_INLINE F32 LoadFloat16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

FUSEDCELL_INLINE __mmask16 FirstLanes(ptrdiff_t n) { return static_cast<__mmask16>((1U << n) - 1U); }
/// Loads n < kLanes floats and reads no others; the remaining lanes are zero.
FUSEDCELL_INLINE F32 LoadFirst(const float* p, ptrdiff_t n) { return _mm512_maskz_loadu_ps(FirstLanes(n), p); }
FUSEDCELL_INLINE void StoreFirst(float* p, F32 a, ptrdiff_t n) { _mm512_mask_storeu_ps(p, FirstLanes(n), a); }

FUSEDCELL_INLINE F32 Add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
FUSEDCELL_INLINE F32 Sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
FUSEDCELL_INLINE F32 Mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
FUSEDCELL_INLINE F32 Div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
FUSEDCELL_INLINE F32 Sqrt(F32 a) { return _mm512_sqrt_ps(a); }
/// a * b + c with one rounding.
FUSEDCELL_INLINE F32 MulAdd(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
/// NaN stays NaN: x86 min and max return their second operand when either is NaN.
FUSEDCELL_INLINE F32 Clamp(F32 a, F32 low, F32 high) { return _mm512_min_ps(high, _mm512_max_ps(low, a)); }
/// Positive values and NaN pass; everything else, -0 included, becomes +0.
FUSEDCELL_INLINE F32 Relu(F32 a) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, Zero(), _CMP_NLE_UQ), a); }
/// x where a < b, else y, also where either is NaN.
FUSEDCELL_INLINE F32 SelectLess(F32 a, F32 b, F32 x, F32 y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
// A vector of int rather than of 64-bit words, as the intrinsics have it: between the two GCC copies accumulators, and
// keeps a copy on the stack in every turn of a loop.
#if defined(_MSC_VER) && !defined(__clang__)
using I32 = __m512i;
#else
using I32 = __v16si;
#endif
FUSEDCELL_INLINE I32 ToI32(__m512i a) { return (I32)a; }
FUSEDCELL_INLINE __m512i Bits(I32 a) { return (__m512i)a; }
FUSEDCELL_INLINE I32 ZeroI32() { return ToI32(_mm512_setzero_si512()); }
FUSEDCELL_INLINE F32 ToFloat(I32 a) { return _mm512_cvtepi32_ps(Bits(a)); }
/// The larger of `a` and the bits of |b|. Bits of floats without sign order as the floats do, with NaN above infinity.
FUSEDCELL_INLINE I32 MaxMagnitude(I32 a, F32 b) {
    return ToI32(_mm512_max_epi32(Bits(a), _mm512_and_si512(_mm512_castps_si512(b), _mm512_set1_epi32(0x7fffffff))));
}
FUSEDCELL_INLINE int32_t LargestLane(I32 a) { return _mm512_reduce_max_epi32(Bits(a)); }
/// `a`, and 1 more in each lane in which b is not zero, as NaN is not.
FUSEDCELL_INLINE I32 CountNonzero(I32 a, F32 b) {
    const __mmask16 nonzero = _mm512_cmp_ps_mask(Zero(), b, _CMP_NEQ_UQ);
    return ToI32(_mm512_mask_add_epi32(Bits(a), nonzero, Bits(a), _mm512_set1_epi32(1)));
}
/// Rounds to nearest, ties to even, and stores one byte a lane.
FUSEDCELL_INLINE void StoreInt8(int8_t* p, F32 a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}

constexpr int kNarrowed = 1;

/// 2^n for the integer n that the low bits of `a` hold (see Exp2 in generic/activations.h).
FUSEDCELL_INLINE F32 PowerOfTwo(F32 a) {
    const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(a), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(0x3f800000)));
}

// A positive normal a is Mantissa(a) * 2^Exponent(a), with Mantissa(a) from sqrt(1/2) on and below twice that.
constexpr int kRootHalf = 0x3f3504f3;
FUSEDCELL_INLINE __m512i AboveRootHalf(F32 a) {
    return _mm512_sub_epi32(_mm512_castps_si512(a), _mm512_set1_epi32(kRootHalf));
}
FUSEDCELL_INLINE F32 Exponent(F32 a) { return _mm512_cvtepi32_ps(_mm512_srai_epi32(AboveRootHalf(a), 23)); }
FUSEDCELL_INLINE F32 Mantissa(F32 a) {
    const __m512i bits = _mm512_and_si512(AboveRootHalf(a), _mm512_set1_epi32(0x7fffff));
    return _mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32(kRootHalf)));
}

/// Lane i gets lane i ^ kDistance.
template <int kDistance>
FUSEDCELL_INLINE F32 Exchanged(F32 a) {
    if constexpr (kDistance >= 4) {
        return _mm512_shuffle_f32x4(a, a, kDistance == 8 ? 0x4e : 0xb1);
    } else {
        return _mm512_permute_ps(a, kDistance == 2 ? 0x4e : 0xb1);
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
