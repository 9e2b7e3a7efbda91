// Gates r, z, n:   h' = (1 - z) n + z h, with
//
//     reset_after       n = tanh(p_n + r (b_hn + R_n h))      one pass over h
//     reset before      n = tanh(p_n + R_n (r h))             needs all of r first: two passes
//
// With e = exp(-z), z = 1 / (1 + e) and 1 - z = e / (1 + e); with n = N / M the state needs one division:
//
//     h' = (e N + h M) / ((1 + e) M)
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

FUSEDCELL_INLINE F32 UpdateState(F32 exp_negative_z, F32 n, F32 h) {
    const TanhQuotient candidate = TanhParts(n);
    const F32 numerator = MulAdd(h, candidate.denominator, Mul(exp_negative_z, candidate.numerator));
    return Div(numerator, Mul(Add(Broadcast(1.0F), exp_negative_z), candidate.denominator));
}

/// Gates r and z, and the candidate n, of one panel, from what goes into their activations.
FUSEDCELL_NOINLINE void TraceGatesOfGru(const CellRow& row, ptrdiff_t panel, ptrdiff_t units, F32 r, F32 z) {
    const F32 gates[] = {Sigmoid(r), Sigmoid(z)};
    Trace(*row.trace, panel * kLanes, units, 0, gates, 2);
}

FUSEDCELL_NOINLINE void TraceCandidate(const CellRow& row, ptrdiff_t panel, ptrdiff_t units, F32 n) {
    const F32 candidate = Tanh(n);
    Trace(*row.trace, panel * kLanes, units, 2, &candidate, 1);
}

struct GruResetAfter {
    using Row = CellRow;
    static constexpr int kGates = 3;
    static constexpr bool kHasInitialAccumulators = true;    // b_hn
    static constexpr bool kStoresSums = false;

    static FUSEDCELL_INLINE void Finish(const Row& row, ptrdiff_t panel, const F32* acc, ptrdiff_t units) {
        const float* projection = row.projection + panel * kGates * kLanes;
        const F32 r = Add(Load(projection), acc[0]);
        const F32 z = Add(Load(projection + kLanes), acc[1]);
        const F32 n = Add(Load(projection + 2 * kLanes), Div(acc[2], SigmoidDenominator(r)));
        const F32 h = LoadUnits(row.h + panel * kLanes, units);
        StoreUnits(row.h_next + panel * kLanes, UpdateState(ExpNegative(z), n, h), units);
        if (row.trace != nullptr) {
            TraceGatesOfGru(row, panel, units, r, z);
            TraceCandidate(row, panel, units, n);
        }
    }
};

// First pass of the form that resets before: leaves exp(-z) in row.update and r h, the input of the second pass, in
// row.reset_h, both padded to whole vectors.
struct GruResetBeforeGates {
    using Row = CellRow;
    static constexpr int kGates = 2;
    static constexpr bool kHasInitialAccumulators = false;
    static constexpr bool kStoresSums = false;

    static FUSEDCELL_INLINE void Finish(const Row& row, ptrdiff_t panel, const F32* acc, ptrdiff_t units) {
        const float* projection = row.projection + panel * 3 * kLanes;
        const F32 r = Add(Load(projection), acc[0]);
        const F32 z = Add(Load(projection + kLanes), acc[1]);
        const F32 h = LoadUnits(row.h + panel * kLanes, units);
        Store(row.update + panel * kLanes, ExpNegative(z));
        Store(row.reset_h + panel * kLanes, Div(h, SigmoidDenominator(r)));
        if (row.trace != nullptr) TraceGatesOfGru(row, panel, units, r, z);
    }
};

struct GruResetBeforeCandidate {
    using Row = CellRow;
    static constexpr int kGates = 1;
    static constexpr bool kHasInitialAccumulators = false;
    static constexpr bool kStoresSums = false;

    static FUSEDCELL_INLINE void Finish(const Row& row, ptrdiff_t panel, const F32* acc, ptrdiff_t units) {
        const F32 n = Add(Load(row.projection + (panel * 3 + 2) * kLanes), acc[0]);
        const F32 h = LoadUnits(row.h + panel * kLanes, units);
        const F32 exp_negative_z = Load(row.update + panel * kLanes);
        StoreUnits(row.h_next + panel * kLanes, UpdateState(exp_negative_z, n, h), units);
        if (row.trace != nullptr) TraceCandidate(row, panel, units, n);
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
