// y = b + W x, each output one chain that starts at b: the input projection of every cell, and the LSTM's projection.
#pragma once

#include "kernels/generic/pair.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

struct Linear {
    using Row = LinearRow;
    static constexpr int kGates = 1;
    static constexpr int kProjections = 0;
    static constexpr bool kHasInitialAccumulators = true;
    static constexpr bool kStoresSums = true;

    template <class Panels>
    static FUSEDCELL_INLINE void Finish(const Panels& at) {
        at.StoreUnitsOf(at.In(&LinearRow::y), at.Sum(0));
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
