// Gates i, f, g, o:   c' = sigmoid(f) c + sigmoid(i) tanh(g),   h' = sigmoid(o) tanh(c').
//
// With sigmoid(x) = 1 / D(x) and tanh(x) = N(x) / M(x) each line needs one division, not three and two:
//
//     c' = (c Di Mg + Ng Df) / (Df Di Mg)        h' = Nc / (Do Mc)
//
// Di Mg is one rounded product in both places, so its error cancels in the term that carries c from step to step.
#pragma once

#include "kernels/generic/activations.h"
#include "kernels/generic/tile.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

/// Of one panel. Out of line, because hardly any run wants it; unused where a build leaves the cell out.
[[maybe_unused]] FUSEDCELL_NOINLINE void TraceLstm(const CellRow& row, ptrdiff_t panel, ptrdiff_t units, F32 i, F32 f,
                                                   F32 g, F32 o, F32 c_next) {
    const F32 gates[] = {Sigmoid(i), Sigmoid(f), Tanh(g), Sigmoid(o)};
    Trace(*row.trace, panel * kLanes, units, 0, gates, 4);
    if (row.trace->c != nullptr) StoreUnits(row.trace->c + panel * kLanes, c_next, units);
}

struct Lstm {
    using Row = CellRow;
    static constexpr int kGates = 4;
    static constexpr int kProjections = 4;
    static constexpr bool kHasInitialAccumulators = false;
    static constexpr bool kStoresSums = false;

    template <class Panels>
    static FUSEDCELL_INLINE void Finish(const Panels& at) {
        const auto preactivation = [&](int gate) { return Add(at.Projected(kGates, gate), at.Sum(gate)); };
        const auto i = preactivation(0);
        const auto f = preactivation(1);
        const auto g = preactivation(2);
        const auto o = preactivation(3);

        const auto place_of_c = at.In(&CellRow::c);
        const auto c = at.LoadUnitsOf(place_of_c);
        const auto forget = SigmoidDenominator(f);
        const auto candidate = TanhParts(g);
        const auto input = Mul(SigmoidDenominator(i), candidate.denominator);
        const auto numerator = MulAdd(c, input, Mul(candidate.numerator, forget));
        const auto c_next = Div(numerator, Mul(forget, input));
        at.StoreUnitsOf(place_of_c, c_next);

        const auto cell = TanhParts(c_next);
        const auto h_next = Div(cell.numerator, Mul(SigmoidDenominator(o), cell.denominator));
        at.StoreUnitsOf(at.In(&CellRow::h_next), h_next);
        if constexpr (!Panels::kIsPair) {
            if (TraceOf(at.row) != nullptr) TraceLstm(at.row, at.panel, at.units, i, f, g, o, c_next);
        }
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
