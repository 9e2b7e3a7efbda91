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

#include "kernels/generic/pair.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// |t| <= 30 keeps the product of three denominators below 2^91 and leaves a cell state 2^36 times that before it
// could overflow.
constexpr float kMaxExponent = 30.0F;
constexpr float kLog2E = 0x1.715476p0F;

// e = power + power * fraction, that is power = 2^n and fraction = 2^f - 1.
template <class V>
struct Exp2 {
    V power;
    V fraction;
};

// Of q, from its highest power on.
constexpr int kExp2Degree = 5;
constexpr float kExp2Coefficients[kExp2Degree + 1] = {0x1.429618p-13F, 0x1.5ef134p-10F, 0x1.3b2c3ep-7F,
                                                      0x1.c6afa4p-5F,  0x1.ebfbdep-3F,  0x1.62e430p-1F};

/// What q f is added to.
template <int kNumber>
FUSEDCELL_INLINE F32 Exp2Addend(F32) {
    return Broadcast(kExp2Coefficients[kNumber]);
}
#ifdef FUSEDCELL_LOADS_ADDENDS
// Each coefficient in as many lanes as a pair has.
struct Exp2Addends {
    alignas(16) float lanes[kExp2Degree + 1][2 * kLanes] = {};
    constexpr Exp2Addends() {
        for (int i = 0; i <= kExp2Degree; ++i) {
            for (float& lane : lanes[i]) lane = kExp2Coefficients[i];
        }
    }
};
constexpr Exp2Addends kExp2Addends;

template <int kNumber>
FUSEDCELL_INLINE Pair Exp2Addend(Pair f) {
    Pair addend;
    LoadTwo<kNumber * sizeof kExp2Addends.lanes[0]>(kExp2Addends, f.first, addend.first, addend.second);
    return addend;
}
#else
template <int kNumber>
FUSEDCELL_INLINE Pair Exp2Addend(Pair) {
    return BroadcastTo<Pair>(kExp2Coefficients[kNumber]);
}
#endif

/// q f + the coefficients from number kNumber on, by Horner's rule.
template <int kNumber, class V>
FUSEDCELL_INLINE V Exp2Horner(V q, V f) {
    if constexpr (kNumber > kExp2Degree) {
        return q;
    } else {
        return Exp2Horner<kNumber + 1>(MulAdd(q, f, Exp2Addend<kNumber>(f)), f);
    }
}

/// q(f).
template <class V>
FUSEDCELL_INLINE V Exp2Polynomial(V f) {
#ifdef FUSEDCELL_DOUBLES
    return HornerByDoubles(kExp2Coefficients, f);
#else
    return Exp2Horner<1>(BroadcastTo<V>(kExp2Coefficients[0]), f);
#endif
}

template <class V>
FUSEDCELL_INLINE Exp2<V> Exp2Parts(V x, float scale) {
    const V t = Clamp(Mul(x, BroadcastTo<V>(scale)), BroadcastTo<V>(-kMaxExponent), BroadcastTo<V>(kMaxExponent));
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low mantissa bits. The exponent's bias could
    // be added with it, but is odd: t = 1/2 would round to 1, which costs 2^f - 1 accuracy where x is small.
    const V magic = BroadcastTo<V>(0x1.8p23F);
    const V shifted = Add(t, magic);
    const V f = Sub(t, Sub(shifted, magic));
    return {PowerOfTwo(shifted), Mul(Exp2Polynomial(f), f)};
}

/// exp(-x); sigmoid(x) is 1 / (1 + exp(-x)) and 1 - sigmoid(x) is exp(-x) / (1 + exp(-x)).
template <class V>
FUSEDCELL_INLINE V ExpNegative(V x) {
    const Exp2<V> e = Exp2Parts(x, -kLog2E);
    return MulAddOnce(e.power, e.fraction, e.power);
}

template <class V>
FUSEDCELL_INLINE V SigmoidDenominator(V x) {
    return Add(BroadcastTo<V>(1.0F), ExpNegative(x));
}

// |numerator| <= denominator for every x, so a quotient of products of these never exceeds 1.
template <class V>
struct TanhQuotient {
    V numerator;
    V denominator;
};

template <class V>
FUSEDCELL_INLINE TanhQuotient<V> TanhParts(V x) {
    const Exp2<V> e = Exp2Parts(x, -2.0F * kLog2E);
    const V one = BroadcastTo<V>(1.0F);
    // 1 - 2^n is exact, so -m = (1 - 2^n) - 2^n (2^f - 1) is rounded once.
    const V negative_m = Sub(Sub(one, e.power), Mul(e.power, e.fraction));
    return {negative_m, Sub(BroadcastTo<V>(2.0F), negative_m)};
}

FUSEDCELL_INLINE F32 Sigmoid(F32 x) { return Div(Broadcast(1.0F), SigmoidDenominator(x)); }

template <class V>
FUSEDCELL_INLINE V TanhOf(V x) {
    const TanhQuotient<V> t = TanhParts(x);
    return Div(t.numerator, t.denominator);
}
FUSEDCELL_INLINE F32 Tanh(F32 x) { return TanhOf(x); }

template <F32 (*Function)(F32)>
void Map(const float* x, float* y, ptrdiff_t size) {
    ptrdiff_t i = 0;
    for (; i + kLanes <= size; i += kLanes) Store(y + i, Function(Load(x + i)));
    if (i < size) StoreFirst(y + i, Function(LoadFirst(x + i, size - i)), size - i);
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
