// Rows of a model's nodes without a matrix. x has `parts` parts of `size` features.
//
//     add, sum_pool    y = x[0], then y = y + x[t] for t = 1, 2, ...
//     multiply         likewise y x[t]
//     mean_pool        the same sum, divided by the number of parts
//     max_pool         likewise the larger; of equal ones (0 and -0) the first; NaN where one is NaN
//     depthwise        y = b, then y = fma(w[t], x[t], y)
//     scale            y = fma(w, x, b)
//     prelu            y = x < 0 ? w x : x
//     glu              y = x[0] / (1 + Exp(-x[1]))
//
// and of each part by itself, with S(v) the sum of v[i] below:
//
//     softmax          e = Exp(x - m), m the largest x;  y = e (1 / S(e))
//     log_softmax      d = x - m;                        y = d - Log(S(Exp(d)))
//     layer_norm       d = x - S(x) / size;              y = fma(d (1 / sqrt(S(d^2) / size + epsilon)), w, b)
//     rms_norm                                           y = fma(x (1 / sqrt(S(x^2) / size + epsilon)), w, b)
//     l2_norm                                            y = fma(x (1 / max(sqrt(S(x^2)), epsilon)), w, b)
//
// w and b have a number for each of the features that they go with, of all parts; where they are not given, w is 1 and
// b is 0. Exp and Log are as in functions.h, division and square root IEEE's.
//
// A sum over a part is in kSums accumulators: number j starts at +0 and adds v[j], v[j + kSums], ..., squares by fma.
// The last kSums of a part are filled up with +0. Then accumulator j adds that of j + 8 for j < 8, that of j + 4 for
// j < 4, that of j + 2 for j < 2 and that of j + 1 for j = 0. The largest of a part is found by the same tree, filled
// up with -infinity, so that vectors of any width, up to kSums lanes, give the same bits.
#pragma once

#include "kernels/generic/functions.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

constexpr ptrdiff_t kSums = 16;
constexpr int kSumVectors = static_cast<int>(kSums) / kLanes;

using Combine = F32(F32, F32);

/// y[i] = f(i, n), n lanes from feature i on.
template <class Function>
FUSEDCELL_INLINE void Fill(float* y, ptrdiff_t size, const Function& f) {
    ptrdiff_t i = 0;
    for (; i + kLanes <= size; i += kLanes) Store(y + i, f(i, ptrdiff_t{kLanes}));
    if (i < size) StoreFirst(y + i, f(i, size - i), size - i);
}

FUSEDCELL_INLINE F32 LoadOr(float otherwise, const float* p, ptrdiff_t i, ptrdiff_t n) {
    return p == nullptr ? Broadcast(otherwise) : LoadUnits(p + i, n);
}

/// b where a < b, and NaN where either is NaN.
FUSEDCELL_INLINE F32 Larger(F32 a, F32 b) { return SelectLess(a, b, b, SelectLess(b, Infinity(), a, Add(a, b))); }

template <Combine* kCombine>
void OverParts(const float* x, float* y, const RowShape& shape, const RowParameters&) {
    Fill(y, shape.size, [&](ptrdiff_t i, ptrdiff_t n) {
        F32 total = LoadUnits(x + i, n);
        for (ptrdiff_t t = 1; t < shape.parts; ++t) total = kCombine(total, LoadUnits(x + t * shape.size + i, n));
        return total;
    });
}

void MeanPool(const float* x, float* y, const RowShape& shape, const RowParameters& parameters) {
    OverParts<Add>(x, y, shape, parameters);
    const F32 parts = Broadcast(static_cast<float>(shape.parts));
    Fill(y, shape.size, [&](ptrdiff_t i, ptrdiff_t n) { return Div(LoadUnits(y + i, n), parts); });
}

void Depthwise(const float* x, float* y, const RowShape& shape, const RowParameters& parameters) {
    Fill(y, shape.size, [&](ptrdiff_t i, ptrdiff_t n) {
        F32 total = LoadOr(0.0F, parameters.bias, i, n);
        for (ptrdiff_t t = i; t < i + shape.parts * shape.size; t += shape.size) {
            total = MulAdd(LoadUnits(parameters.weight + t, n), LoadUnits(x + t, n), total);
        }
        return total;
    });
}

void Scale(const float* x, float* y, const RowShape& shape, const RowParameters& parameters) {
    Fill(y, shape.parts * shape.size, [&](ptrdiff_t i, ptrdiff_t n) {
        const F32 bias = LoadOr(0.0F, parameters.bias, i, n);
        return MulAdd(LoadOr(1.0F, parameters.weight, i, n), LoadUnits(x + i, n), bias);
    });
}

void PRelu(const float* x, float* y, const RowShape& shape, const RowParameters& parameters) {
    Fill(y, shape.parts * shape.size, [&](ptrdiff_t i, ptrdiff_t n) {
        const F32 value = LoadUnits(x + i, n);
        return SelectLess(value, Zero(), Mul(LoadUnits(parameters.weight + i, n), value), value);
    });
}

void Glu(const float* x, float* y, const RowShape& shape, const RowParameters&) {
    Fill(y, shape.size,
         [&](ptrdiff_t i, ptrdiff_t n) { return Gated(LoadUnits(x + i, n), LoadUnits(x + shape.size + i, n)); });
}

/// In every lane, what kCombine, which is commutative, makes of all lanes by the tree above.
template <Combine* kCombine, int kDistance = kLanes / 2>
FUSEDCELL_INLINE F32 AcrossLanes(F32 a) {
    if constexpr (kDistance == 0) {
        return a;
    } else {
        return AcrossLanes<kCombine, kDistance / 2>(kCombine(a, Exchanged<kDistance>(a)));
    }
}

/// In every lane, what the accumulators come to that begin at `start` and take one x after the other by kStep;
/// `missing` fills up the last of them.
template <Combine* kStep, Combine* kCombine>
FUSEDCELL_INLINE F32 OverPart(const float* x, ptrdiff_t size, float start, float missing) {
    static constexpr float kNumbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    F32 acc[kSumVectors];
    FUSEDCELL_UNROLL
    for (F32& a : acc) a = Broadcast(start);
    ptrdiff_t i = 0;
    for (; i + kSums <= size; i += kSums) {
        FUSEDCELL_UNROLL
        for (int v = 0; v < kSumVectors; ++v) acc[v] = kStep(acc[v], Load(x + i + v * kLanes));
    }
    if (i < size) {
        FUSEDCELL_UNROLL
        for (int v = 0; v < kSumVectors; ++v, i += kLanes) {
            F32 values = Broadcast(missing);
            if (size - i >= kLanes) {
                values = Load(x + i);
            } else if (i < size) {
                const F32 count = Broadcast(static_cast<float>(size - i));
                values = SelectLess(Load(kNumbers), count, LoadFirst(x + i, size - i), values);
            }
            acc[v] = kStep(acc[v], values);
        }
    }
    FUSEDCELL_UNROLL
    for (int half = kSumVectors / 2; half > 0; half /= 2) {
        FUSEDCELL_UNROLL
        for (int v = 0; v < half; ++v) acc[v] = kCombine(acc[v], acc[v + half]);
    }
    return AcrossLanes<kCombine>(acc[0]);
}

/// 0 for -0, of which lanes might have found one or the other.
FUSEDCELL_INLINE F32 Largest(const float* x, ptrdiff_t size) {
    const float lowest = -FloatOfBits(kInfinityBits);
    return Add(OverPart<Larger, Larger>(x, size, lowest, lowest), Zero());
}

FUSEDCELL_INLINE F32 AddSquare(F32 sum, F32 value) { return MulAdd(value, value, sum); }
FUSEDCELL_INLINE F32 AddExp(F32 sum, F32 value) { return Add(sum, Exp(value)); }
FUSEDCELL_NOINLINE F32 AddExpApart(F32 sum, F32 value) { return AddExp(sum, value); }
// Unrolled it would be 30 KB where a multiply-add is a page of code.
constexpr Combine* kAddExp = kGatesApart ? &AddExpApart : &AddExp;

/// y = x - center
FUSEDCELL_INLINE void Center(const float* x, float* y, ptrdiff_t size, F32 center) {
    Fill(y, size, [&](ptrdiff_t i, ptrdiff_t n) { return Sub(LoadUnits(x + i, n), center); });
}

void Softmax(const float* x, float* y, const RowShape& shape, const RowParameters&) {
    for (const float* end = x + shape.parts * shape.size; x < end; x += shape.size, y += shape.size) {
        const F32 largest = Largest(x, shape.size);
        Fill(y, shape.size, [&](ptrdiff_t i, ptrdiff_t n) { return Exp(Sub(LoadUnits(x + i, n), largest)); });
        const F32 factor = Div(Broadcast(1.0F), OverPart<Add, Add>(y, shape.size, 0.0F, 0.0F));
        Fill(y, shape.size, [&](ptrdiff_t i, ptrdiff_t n) { return Mul(LoadUnits(y + i, n), factor); });
    }
}

void LogSoftmax(const float* x, float* y, const RowShape& shape, const RowParameters&) {
    const float lowest = -FloatOfBits(kInfinityBits);    // whose Exp is 0
    for (const float* end = x + shape.parts * shape.size; x < end; x += shape.size, y += shape.size) {
        Center(x, y, shape.size, Largest(x, shape.size));
        Center(y, y, shape.size, Log(OverPart<kAddExp, Add>(y, shape.size, 0.0F, lowest)));
    }
}

/// By the root of the mean square, or of the sum of squares.
template <bool kCentered, bool kByMean>
void Normalise(const float* x, float* y, const RowShape& shape, const RowParameters& parameters) {
    const F32 size = Broadcast(static_cast<float>(shape.size));
    const F32 epsilon = Broadcast(parameters.epsilon);
    for (ptrdiff_t first = 0; first < shape.parts * shape.size; first += shape.size) {
        const float* values = x + first;
        if constexpr (kCentered) {
            Center(values, y + first, shape.size, Div(OverPart<Add, Add>(values, shape.size, 0.0F, 0.0F), size));
            values = y + first;
        }
        const F32 squares = OverPart<AddSquare, Add>(values, shape.size, 0.0F, 0.0F);
        const F32 root = kByMean ? Sqrt(Add(Div(squares, size), epsilon)) : Larger(epsilon, Sqrt(squares));
        const F32 factor = Div(Broadcast(1.0F), root);
        Fill(y + first, shape.size, [&](ptrdiff_t i, ptrdiff_t n) {
            const F32 bias = LoadOr(0.0F, parameters.bias, first + i, n);
            return MulAdd(Mul(LoadUnits(values + i, n), factor), LoadOr(1.0F, parameters.weight, first + i, n), bias);
        });
    }
}
constexpr RowKernel kLayerNorm = &Normalise<true, true>;
constexpr RowKernel kRmsNorm = &Normalise<false, true>;
constexpr RowKernel kL2Norm = &Normalise<false, false>;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
