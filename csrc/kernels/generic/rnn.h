// h' = f(p + R h), f = tanh or relu.
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

struct ApplyTanh {
    template <class V>
    static FUSEDCELL_INLINE V Of(V x) {
        return TanhOf(x);
    }
};
struct ApplyRelu {
    template <class V>
    static FUSEDCELL_INLINE V Of(V x) {
        return Relu(x);
    }
};

template <class Activation>
struct Rnn {
    using Row = CellRow;
    static constexpr int kGates = 1;
    static constexpr bool kHasInitialAccumulators = false;
    static constexpr bool kStoresSums = false;

    template <class V>
    static FUSEDCELL_INLINE void Finish(const Row& row, ptrdiff_t panel, const F32* acc, ptrdiff_t units) {
        const V a = Add(LoadAt<V>(row.projection + panel * kLanes, kLanes), VectorsAt<V>(acc, 1));
        StoreUnits(row.h_next + panel * kLanes, Activation::Of(a), units);
    }
};

using RnnTanh = Rnn<ApplyTanh>;
using RnnRelu = Rnn<ApplyRelu>;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
