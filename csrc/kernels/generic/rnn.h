// h' = f(p + R h), f = tanh or relu.
#pragma once

#include "kernels/generic/activations.h"
#include "kernels/generic/tile.h"

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
    static constexpr int kProjections = 1;
    static constexpr bool kHasInitialAccumulators = false;
    static constexpr bool kStoresSums = false;

    template <class Panels>
    static FUSEDCELL_INLINE void Finish(const Panels& at) {
        at.StoreUnitsOf(at.In(&CellRow::h_next), Activation::Of(Add(at.Projected(kGates, 0), at.Sum(0))));
    }
};

using RnnTanh = Rnn<ApplyTanh>;
using RnnRelu = Rnn<ApplyRelu>;

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
