// Weights one vector at a time and inputs one broadcast at a time, both widened to double, for a tier that multiplies
// and adds so (generic/dot_doubles.h has the loop). Dot products include it after their vector type.
#pragma once

#include "kernels/simd/vec_sse41.h"

#include "kernels/simd/plain_dot.h"

// Loops over k are those of generic/dot_doubles.h.
#define FUSEDCELL_DOUBLES

namespace fusedcell::FUSEDCELL_ISA {
namespace {

constexpr bool kOneRowAlone = true;
constexpr bool kGatesApart = true;
constexpr bool kGroupsFarRows = false;

FUSEDCELL_INLINE Doubles BroadcastDoubles(float a) {
    const __m128d wide = _mm_cvtps_pd(_mm_load_ss(&a));
    const __m128d both = _mm_unpacklo_pd(wide, wide);
    return {both, both};
}

FUSEDCELL_INLINE __m128d WidenTwo(const float* p) {
#if defined(__GNUC__) && !defined(__clang__)
    // GCC would load first, and then need a port that shuffles for it.
    struct Two {
        float numbers[2];
    };
    __m128d wide;
    asm("cvtps2pd %1, %0" : "=x"(wide) : "m"(*reinterpret_cast<const Two*>(p)));
    return wide;
#else
    return _mm_cvtps_pd(LoadTwo(p));
#endif
}

struct Float32Loads : PlainDot<float> {
    static FUSEDCELL_INLINE F32 WeightsAt(const float* p) { return Load(p); }
    static FUSEDCELL_INLINE Doubles DoublesAt(const float* p) { return {WidenTwo(p), WidenTwo(p + 2)}; }
};
struct Bfloat16Loads : PlainDot<uint16_t> {
    static FUSEDCELL_INLINE F32 WeightsAt(const uint16_t* p) { return LoadBfloat16(p); }
    static FUSEDCELL_INLINE Doubles DoublesAt(const uint16_t* p) { return Widen(LoadBfloat16(p)); }
};
struct Float16Loads : PlainDot<uint16_t> {
    static FUSEDCELL_INLINE F32 WeightsAt(const uint16_t* p) { return LoadFloat16(p); }
    static FUSEDCELL_INLINE Doubles DoublesAt(const uint16_t* p) { return Widen(LoadFloat16(p)); }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
