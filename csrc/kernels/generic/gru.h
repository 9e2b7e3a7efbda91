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

template <class V>
FUSEDCELL_INLINE V UpdateState(V exp_negative_z, V n, V h) {
    const TanhQuotient<V> candidate = TanhParts(n);
    const V numerator = MulAdd(h, candidate.denominator, Mul(exp_negative_z, candidate.numerator));
    return Div(numerator, Mul(Add(BroadcastTo<V>(1.0F), exp_negative_z), candidate.denominator));
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

    template <class V>
    static FUSEDCELL_INLINE void Finish(const Row& row, ptrdiff_t panel, const F32* acc, ptrdiff_t units) {
        const float* projection = row.projection + panel * kGates * kLanes;
        const auto projected = [&](int gate) { return LoadAt<V>(projection + gate * kLanes, kGates * kLanes); };
        const auto recurrent = [&](int gate) { return VectorsAt<V>(acc + gate, kGates); };
        const V r = Add(projected(0), recurrent(0));
        const V z = Add(projected(1), recurrent(1));
        const V n = Add(projected(2), Div(recurrent(2), SigmoidDenominator(r)));
        const V h = LoadUnits<V>(row.h + panel * kLanes, units);
        StoreUnits(row.h_next + panel * kLanes, UpdateState(ExpNegative(z), n, h), units);
        if constexpr (kVectorsOf<V> == 1) {
            if (row.trace != nullptr) {
                TraceGatesOfGru(row, panel, units, r, z);
                TraceCandidate(row, panel, units, n);
            }
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

    template <class V>
    static FUSEDCELL_INLINE void Finish(const Row& row, ptrdiff_t panel, const F32* acc, ptrdiff_t units) {
        const float* projection = row.projection + panel * 3 * kLanes;
        const V r = Add(LoadAt<V>(projection, 3 * kLanes), VectorsAt<V>(acc, kGates));
        const V z = Add(LoadAt<V>(projection + kLanes, 3 * kLanes), VectorsAt<V>(acc + 1, kGates));
        const V h = LoadUnits<V>(row.h + panel * kLanes, units);
        StoreAll(row.update + panel * kLanes, ExpNegative(z));
        StoreAll(row.reset_h + panel * kLanes, Div(h, SigmoidDenominator(r)));
        if constexpr (kVectorsOf<V> == 1) {
            if (row.trace != nullptr) TraceGatesOfGru(row, panel, units, r, z);
        }
    }
};

struct GruResetBeforeCandidate {
    using Row = CellRow;
    static constexpr int kGates = 1;
    static constexpr bool kHasInitialAccumulators = false;
    static constexpr bool kStoresSums = false;

    template <class V>
    static FUSEDCELL_INLINE void Finish(const Row& row, ptrdiff_t panel, const F32* acc, ptrdiff_t units) {
        const V n = Add(LoadAt<V>(row.projection + (panel * 3 + 2) * kLanes, 3 * kLanes), VectorsAt<V>(acc, kGates));
        const V h = LoadUnits<V>(row.h + panel * kLanes, units);
        const V exp_negative_z = LoadAt<V>(row.update + panel * kLanes, kLanes);
        StoreUnits(row.h_next + panel * kLanes, UpdateState(exp_negative_z, n, h), units);
        if constexpr (kVectorsOf<V> == 1) {
            if (row.trace != nullptr) TraceCandidate(row, panel, units, n);
        }
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
