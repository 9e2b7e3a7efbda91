// y = b + W x, each output one chain that starts at b: the input projection of every cell, and the LSTM's projection.
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

struct Linear {
    using Row = LinearRow;
    static constexpr int kGates = 1;
    static constexpr bool kHasInitialAccumulators = true;
    static constexpr bool kStoresSums = true;

    template <class V>
    static FUSEDCELL_INLINE void Finish(const Row& row, ptrdiff_t panel, const F32* acc, ptrdiff_t units) {
        StoreUnits(row.y + panel * kLanes, VectorsAt<V>(acc, 1), units);
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
