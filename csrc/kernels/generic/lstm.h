// Gates i, f, g, o:   c' = sigmoid(f) c + sigmoid(i) tanh(g),   h' = sigmoid(o) tanh(c').
//
// With sigmoid(x) = 1 / D(x) and tanh(x) = N(x) / M(x) each line needs one division, not three and two:
//
//     c' = (c Di Mg + Ng Df) / (Df Di Mg)        h' = Nc / (Do Mc)
//
// Di Mg is one rounded product in both places, so its error cancels in the term that carries c from step to step.
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

/// Of one panel. Out of line, because hardly any run wants it.
FUSEDCELL_NOINLINE void TraceLstm(const CellRow& row, ptrdiff_t panel, ptrdiff_t units, F32 i, F32 f, F32 g, F32 o,
                                  F32 c_next) {
    const F32 gates[] = {Sigmoid(i), Sigmoid(f), Tanh(g), Sigmoid(o)};
    Trace(*row.trace, panel * kLanes, units, 0, gates, 4);
    if (row.trace->c != nullptr) StoreUnits(row.trace->c + panel * kLanes, c_next, units);
}

struct Lstm {
    using Row = CellRow;
    static constexpr int kGates = 4;
    static constexpr bool kHasInitialAccumulators = false;
    static constexpr bool kStoresSums = false;

    template <class V>
    static FUSEDCELL_INLINE void Finish(const Row& row, ptrdiff_t panel, const F32* acc, ptrdiff_t units) {
        const float* projection = row.projection + panel * kGates * kLanes;
        const auto preactivation = [&](int gate) {
            return Add(LoadAt<V>(projection + gate * kLanes, kGates * kLanes), VectorsAt<V>(acc + gate, kGates));
        };
        const V i = preactivation(0);
        const V f = preactivation(1);
        const V g = preactivation(2);
        const V o = preactivation(3);

        const V c = LoadUnits<V>(row.c + panel * kLanes, units);
        const V forget = SigmoidDenominator(f);
        const TanhQuotient<V> candidate = TanhParts(g);
        const V input = Mul(SigmoidDenominator(i), candidate.denominator);
        const V numerator = MulAdd(c, input, Mul(candidate.numerator, forget));
        const V c_next = Div(numerator, Mul(forget, input));
        StoreUnits(row.c + panel * kLanes, c_next, units);

        const TanhQuotient<V> cell = TanhParts(c_next);
        const V h_next = Div(cell.numerator, Mul(SigmoidDenominator(o), cell.denominator));
        StoreUnits(row.h_next + panel * kLanes, h_next, units);
        if constexpr (kVectorsOf<V> == 1) {
            if (row.trace != nullptr) TraceLstm(row, panel, units, i, f, g, o, c_next);
        }
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
