// Sigmoid and tanh, written once over a tier's vector type.
//
// Both come from e = 2^t, t = -x log2(e) or -2x log2(e), and are kept as quotients, so that a cell can put several of
// them over one denominator and divide once:
//
//     sigmoid(x) = 1 / (1 + e)            tanh(x) = -m / (2 + m),  m = e - 1
//
// With n = round(t) and f = t - n, e = 2^n 2^f and m = 2^n (2^f - 1) + (2^n - 1), which has no cancellation at small
// x: tanh keeps its relative accuracy there. 2^f - 1 = f q(f); q is the degree-5 minimax polynomial of (2^f - 1) / f
// on [-1/2, 1/2] in relative error, its coefficients rounded to float one by one with the rest fitted again; relative
// error 1.3e-8. tools/fit_exp2.py derives it.
//
// Error over all floats, on every tier (they return the same bits), checked by tests/test_activations.py:
//     sigmoid   9.5e-8 absolute
//     tanh      1.52e-7 absolute and 3.8 ULP
// tanh saturates to exactly -1 and 1. sigmoid saturates to exactly 1 and, because t is clamped, to 2^-30 instead of 0:
// an absolute error of 1e-9. NaN gives NaN.
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// |t| <= 30 keeps the product of three denominators below 2^91 and leaves a cell state 2^36 times that before it
// could overflow.
constexpr float kMaxExponent = 30.0F;
constexpr float kLog2E = 0x1.715476p0F;

// e = power + power * fraction, that is power = 2^n and fraction = 2^f - 1.
struct Exp2 {
    F32 power;
    F32 fraction;
};

FUSEDCELL_INLINE Exp2 Exp2Parts(F32 x, float scale) {
    const F32 t = Clamp(Mul(x, Broadcast(scale)), Broadcast(-kMaxExponent), Broadcast(kMaxExponent));
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low mantissa bits.
    const F32 magic = Broadcast(0x1.8p23F);
    const F32 shifted = Add(t, magic);
    const F32 f = Sub(t, Sub(shifted, magic));
    F32 q = Broadcast(0x1.429618p-13F);
    q = MulAdd(q, f, Broadcast(0x1.5ef134p-10F));
    q = MulAdd(q, f, Broadcast(0x1.3b2c3ep-7F));
    q = MulAdd(q, f, Broadcast(0x1.c6afa4p-5F));
    q = MulAdd(q, f, Broadcast(0x1.ebfbdep-3F));
    q = MulAdd(q, f, Broadcast(0x1.62e430p-1F));
    return {PowerOfTwo(shifted), Mul(q, f)};
}

/// exp(-x); sigmoid(x) is 1 / (1 + exp(-x)) and 1 - sigmoid(x) is exp(-x) / (1 + exp(-x)).
FUSEDCELL_INLINE F32 ExpNegative(F32 x) {
    const Exp2 e = Exp2Parts(x, -kLog2E);
    return MulAdd(e.power, e.fraction, e.power);
}

FUSEDCELL_INLINE F32 SigmoidDenominator(F32 x) { return Add(Broadcast(1.0F), ExpNegative(x)); }

// |numerator| <= denominator for every x, so a quotient of products of these never exceeds 1.
struct TanhQuotient {
    F32 numerator;
    F32 denominator;
};

FUSEDCELL_INLINE TanhQuotient TanhParts(F32 x) {
    const Exp2 e = Exp2Parts(x, -2.0F * kLog2E);
    const F32 one = Broadcast(1.0F);
    // 1 - 2^n is exact, so -m = (1 - 2^n) - 2^n (2^f - 1) is rounded once.
    const F32 negative_m = Sub(Sub(one, e.power), Mul(e.power, e.fraction));
    return {negative_m, Sub(Broadcast(2.0F), negative_m)};
}

FUSEDCELL_INLINE F32 Sigmoid(F32 x) { return Div(Broadcast(1.0F), SigmoidDenominator(x)); }

FUSEDCELL_INLINE F32 Tanh(F32 x) {
    const TanhQuotient t = TanhParts(x);
    return Div(t.numerator, t.denominator);
}

template <F32 (*Function)(F32)>
void Map(const float* x, float* y, ptrdiff_t size) {
    ptrdiff_t i = 0;
    for (; i + kLanes <= size; i += kLanes) Store(y + i, Function(Load(x + i)));
    if (i < size) StoreFirst(y + i, Function(LoadFirst(x + i, size - i)), size - i);
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
