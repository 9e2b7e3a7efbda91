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

    static FUSEDCELL_INLINE void Finish(const Row& row, ptrdiff_t panel, const F32* acc, ptrdiff_t units) {
        const float* projection = row.projection + panel * kGates * kLanes;
        const F32 i = Add(Load(projection), acc[0]);
        const F32 f = Add(Load(projection + kLanes), acc[1]);
        const F32 g = Add(Load(projection + 2 * kLanes), acc[2]);
        const F32 o = Add(Load(projection + 3 * kLanes), acc[3]);

        const F32 c = LoadUnits(row.c + panel * kLanes, units);
        const F32 forget = SigmoidDenominator(f);
        const TanhQuotient candidate = TanhParts(g);
        const F32 input = Mul(SigmoidDenominator(i), candidate.denominator);
        const F32 numerator = MulAdd(c, input, Mul(candidate.numerator, forget));
        const F32 c_next = Div(numerator, Mul(forget, input));
        StoreUnits(row.c + panel * kLanes, c_next, units);

        const TanhQuotient cell = TanhParts(c_next);
        const F32 h_next = Div(cell.numerator, Mul(SigmoidDenominator(o), cell.denominator));
        StoreUnits(row.h_next + panel * kLanes, h_next, units);
        if (row.trace != nullptr) TraceLstm(row, panel, units, i, f, g, o, c_next);
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
