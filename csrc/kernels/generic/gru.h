// Gates r, z, n:   h' = (1 - z) n + z h, with
//
//     reset_after       n = tanh(p_n + r (b_hn + R_n h))      one pass over h
//     reset before      n = tanh(p_n + R_n (r h))             needs all of r first: two passes
//
// With e = exp(-z), z = 1 / (1 + e) and 1 - z = e / (1 + e); with n = N / M the state needs one division:
//
//     h' = (e N + h M) / ((1 + e) M)
#pragma once

#include "kernels/generic/activations.h"
#include "kernels/generic/tile.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

template <class V>
FUSEDCELL_INLINE V UpdateState(V exp_negative_z, V n, V h) {
    const TanhQuotient<V> candidate = TanhParts(n);
    const V numerator = MulAdd(h, candidate.denominator, Mul(exp_negative_z, candidate.numerator));
    return Div(numerator, Mul(Add(BroadcastTo<V>(1.0F), exp_negative_z), candidate.denominator));
}

/// Gates r and z, and the candidate n, of one panel, from what goes into their activations. Unused where a build leaves
/// the cells out.
[[maybe_unused]] FUSEDCELL_NOINLINE void TraceGatesOfGru(const CellRow& row, ptrdiff_t panel, ptrdiff_t units, F32 r,
                                                         F32 z) {
    const F32 gates[] = {Sigmoid(r), Sigmoid(z)};
    Trace(*row.trace, panel * kLanes, units, 0, gates, 2);
}

[[maybe_unused]] FUSEDCELL_NOINLINE void TraceCandidate(const CellRow& row, ptrdiff_t panel, ptrdiff_t units, F32 n) {
    const F32 candidate = Tanh(n);
    Trace(*row.trace, panel * kLanes, units, 2, &candidate, 1);
}

struct GruResetAfter {
    using Row = CellRow;
    static constexpr int kGates = 3;
    static constexpr int kProjections = 3;
    static constexpr bool kHasInitialAccumulators = true;    // b_hn
    static constexpr bool kStoresSums = false;

    template <class Panels>
    static FUSEDCELL_INLINE void Finish(const Panels& at) {
        const auto projected = [&](int gate) { return at.Projected(kGates, gate); };
        const auto r = Add(projected(0), at.Sum(0));
        const auto z = Add(projected(1), at.Sum(1));
        const auto n = Add(projected(2), Div(at.Sum(2), SigmoidDenominator(r)));
        const auto h = at.LoadUnitsOf(at.In(&CellRow::h));
        at.StoreUnitsOf(at.In(&CellRow::h_next), UpdateState(ExpNegative(z), n, h));
        if constexpr (!Panels::kIsPair) {
            if (TraceOf(at.row) != nullptr) {
                TraceGatesOfGru(at.row, at.panel, at.units, r, z);
                TraceCandidate(at.row, at.panel, at.units, n);
            }
        }
    }
};

// First pass of the form that resets before: leaves exp(-z) in row.update and r h, the input of the second pass, in
// row.reset_h, both padded to whole vectors.
struct GruResetBeforeGates {
    using Row = CellRow;
    static constexpr int kGates = 2;
    static constexpr int kProjections = 3;
    static constexpr bool kHasInitialAccumulators = false;
    static constexpr bool kStoresSums = false;

    template <class Panels>
    static FUSEDCELL_INLINE void Finish(const Panels& at) {
        const auto r = Add(at.Projected(kProjections, 0), at.Sum(0));
        const auto z = Add(at.Projected(kProjections, 1), at.Sum(1));
        const auto h = at.LoadUnitsOf(at.In(&CellRow::h));
        Store(at.In(&CellRow::update), ExpNegative(z));
        Store(at.In(&CellRow::reset_h), Div(h, SigmoidDenominator(r)));
        if constexpr (!Panels::kIsPair) {
            if (TraceOf(at.row) != nullptr) TraceGatesOfGru(at.row, at.panel, at.units, r, z);
        }
    }
};

struct GruResetBeforeCandidate {
    using Row = CellRow;
    static constexpr int kGates = 1;
    static constexpr int kProjections = 3;
    static constexpr bool kHasInitialAccumulators = false;
    static constexpr bool kStoresSums = false;

    template <class Panels>
    static FUSEDCELL_INLINE void Finish(const Panels& at) {
        const auto n = Add(at.Projected(kProjections, 2), at.Sum(0));
        const auto h = at.LoadUnitsOf(at.In(&CellRow::h));
        const auto exp_negative_z = Load(at.In(&CellRow::update));
        at.StoreUnitsOf(at.In(&CellRow::h_next), UpdateState(exp_negative_z, n, h));
        if constexpr (!Panels::kIsPair) {
            if (TraceOf(at.row) != nullptr) TraceCandidate(at.row, at.panel, at.units, n);
        }
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
