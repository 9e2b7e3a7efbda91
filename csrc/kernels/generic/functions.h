// What nodes of models have beside the activations of cells, over the whole range of floats.
//
//     Exp       x clamped to [-87.6, 89], n = round(x log2(e)), f = fma(x, lo, fma(x, hi, -n)) with hi + lo = log2(e),
//     and
//               fma(2^n, q(f) f, 2^n) with q of activations.h; where n is 128, twice that of n - 1
//     Log       fma(n, log(2), s p(s^2)) with x = m 2^n, m near 1, s = (m - 1) / (m + 1) and p of general.h
//     Silu      x / (1 + Exp(-x)), x not below -128
//     GeluTanh  x / (1 + Exp(-v)), v = x fma(x^2, a, b), x not below -16
//     Gelu      fma(-z, Q(z), max(x, 0)) with z = |x|, not above 14.5, and Q the normal distribution's upper tail:
//               e = Exp(-h / 2), made fma(e, -l / 2, e), where h + l is z^2 exactly; d = 1 / (z + 4) and
//               Q = e (d r(1 - 8 d)). No sum cancels, so that small results are as exact as large ones.
//
// r is the degree-9 minimax polynomial in relative error of (z + 4) Q(z) e^(z^2 / 2), its coefficients rounded to float
// one by one; relative error 1.9e-8. tools/fit_normal_tail.py derives it. Errors over all floats, checked by
// tests/test_node_activations.py, where a result below the smallest normal float counts as right if it is 0:
//     Exp        1.1e-7 relative; infinity above 88.72284, 0 below -87.33654
//     Log        2.4e-7 relative; -infinity of 0, NaN below
//     Silu       1.8e-7 relative from -88.7 on, 3e-37 absolute below; -0 of -infinity
//     GeluTanh   8.5e-7 relative from -3 on, 2.1e-6 from -5 on, 5e-13 absolute below; -0 of -infinity
//     Gelu       5e-7 relative from -12.8 on, 2e-37 absolute below; 0 of -infinity
// NaN gives NaN.
#pragma once

#include "kernels/generic/activations.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

FUSEDCELL_INLINE F32 Infinity() { return Broadcast(FloatOfBits(kInfinityBits)); }
FUSEDCELL_INLINE F32 Negative(F32 x) { return Sub(Zero(), x); }
/// |x|, of -0 too.
FUSEDCELL_INLINE F32 Magnitude(F32 x) { return SelectLess(Zero(), x, x, Negative(x)); }

/// log((1 + s) / (1 - s)) / s for s^2 up to 1/9.
FUSEDCELL_INLINE F32 LogPolynomial(F32 square) {
    F32 p = Broadcast(0x1.1eca06p-2F);
    p = MulAdd(p, square, Broadcast(0x1.1ec042p-2F));
    p = MulAdd(p, square, Broadcast(0x1.99d1ccp-2F));
    p = MulAdd(p, square, Broadcast(0x1.555502p-1F));
    return MulAdd(p, square, Broadcast(0x1.000000p+1F));
}

FUSEDCELL_INLINE F32 Exp(F32 x) {
    constexpr float kLog2ERest = 0x1.4ae0c0p-26F;
    const F32 finite = Clamp(x, Broadcast(-87.6F), Broadcast(89.0F));
    const F32 magic = Broadcast(0x1.8p23F);
    const F32 shifted = Add(Mul(finite, Broadcast(kLog2E)), magic);
    const F32 n = Sub(shifted, magic);
    const F32 f = MulAdd(finite, Broadcast(kLog2ERest), MulAdd(finite, Broadcast(kLog2E), Negative(n)));
    const F32 q = Exp2Polynomial(f);
    // No float is 2^128, but half of it is one.
    const F32 halvings = SelectLess(Broadcast(127.0F), n, Broadcast(1.0F), Zero());
    const F32 power = PowerOfTwo(Sub(shifted, halvings));
    return Mul(MulAdd(power, Mul(q, f), power), Add(halvings, Broadcast(1.0F)));
}

FUSEDCELL_INLINE F32 Log(F32 x) {
    const F32 one = Broadcast(1.0F);
    const F32 m = Mantissa(x);
    const F32 s = Div(Sub(m, one), Add(m, one));
    const F32 y = MulAdd(Exponent(x), Broadcast(0x1.62e430p-1F), Mul(s, LogPolynomial(Mul(s, s))));
    const F32 of_zero = Sub(x, Infinity());    // NaN of NaN
    const F32 not_positive = SelectLess(x, Zero(), Broadcast(FloatOfBits(0x7fc00000)), of_zero);
    return SelectLess(Zero(), x, SelectLess(x, Infinity(), y, x), not_positive);
}

/// x / (1 + e^-v)
FUSEDCELL_INLINE F32 Gated(F32 x, F32 v) { return Div(x, Add(Broadcast(1.0F), Exp(Negative(v)))); }

FUSEDCELL_INLINE F32 Silu(F32 x) {
    const F32 finite = Clamp(x, Broadcast(-128.0F), Infinity());
    return Gated(finite, finite);
}

FUSEDCELL_INLINE F32 GeluTanh(F32 x) {
    const F32 finite = Clamp(x, Broadcast(-16.0F), Infinity());
    const F32 slope = MulAdd(Mul(finite, finite), Broadcast(0x1.2444f2p-4F), Broadcast(0x1.988454p+0F));
    return Gated(finite, Mul(finite, slope));
}

constexpr float kTailCoefficients[] = {-0x1.04e3bcp-13F, 0x1.acba98p-13F, 0x1.9feb60p-10F, -0x1.ce1f3ap-9F,
                                       -0x1.edfd7ap-8F,  0x1.eed94cp-5F,  -0x1.7dfebep-3F, 0x1.8c6d8ap-2F,
                                       -0x1.373e3cp-1F,  0x1.82b4bcp-1F};

FUSEDCELL_INLINE F32 Gelu(F32 x) {
    const F32 z = Clamp(Magnitude(x), Zero(), Broadcast(14.5F));
    const F32 high = Mul(z, z);
    const F32 low = MulAdd(z, z, Negative(high));
    const F32 rounded = Exp(Mul(high, Broadcast(-0.5F)));
    const F32 e = MulAdd(rounded, Mul(low, Broadcast(-0.5F)), rounded);
    const F32 d = Div(Broadcast(1.0F), Add(z, Broadcast(4.0F)));
    const F32 u = MulAdd(d, Broadcast(-8.0F), Broadcast(1.0F));
    F32 r = Broadcast(kTailCoefficients[0]);
    FUSEDCELL_UNROLL
    for (int i = 1; i < 10; ++i) r = MulAdd(r, u, Broadcast(kTailCoefficients[i]));
    return MulAdd(Negative(z), Mul(e, Mul(d, r)), Relu(x));
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
