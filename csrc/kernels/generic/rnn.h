// h' = f(p + R h), f = tanh or relu.
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

template <F32 (*Activation)(F32)>
struct Rnn {
    using Row = CellRow;
    static constexpr int kGates = 1;
    static constexpr bool kHasInitialAccumulators = false;
    static constexpr bool kStoresSums = false;

    static FUSEDCELL_INLINE void Finish(const Row& row, ptrdiff_t panel, const F32* acc, ptrdiff_t units) {
        const F32 a = Add(Load(row.projection + panel * kLanes), acc[0]);
        StoreUnits(row.h_next + panel * kLanes, Activation(a), units);
    }
};

using RnnTanh = Rnn<Tanh>;
using RnnRelu = Rnn<Relu>;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
