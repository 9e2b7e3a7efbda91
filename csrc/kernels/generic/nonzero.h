// y = b + W x of one row from those inputs that are not zero, with the bits that `linear` gives.
//
// A product of zero and a finite weight changes no sum but one that is zero itself or, like an initial accumulator, a
// denormal, which counts as zero. So wherever a sum that has left such products out is not zero, it is the sum that has
// them; and if it is 0 that is 0 as well, since 0 and a product of zero are 0 whatever the sign. -0 alone is unsure:
// the sum is 0 if one of those products was. Then all is done again, by `linear`. Such sums are rare: b is -0, or what
// has been added to 0 was a negative product that is too small. A list has one place at least, so that no denormal is
// left.
#pragma once

#include "kernels/generic/quantise.h"
#include "kernels/generic/tile.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

struct Nonzero {
    using Row = LinearRow;
};

/// Float weights of which a row of one tile takes those at the places of its NonzeroInput.
template <class Weights>
struct AtPlaces : Weights {
    static constexpr int kMostRows = 1;

    template <class Kernel, bool kIsBlock, int kRows, int kVectors>
    static FUSEDCELL_INLINE void Sum(F32 (&sums)[kRows][kVectors], const BlockView<AtPlaces>& block,
                                     const void* const (&inputs)[kRows], ptrdiff_t) {
        static_assert(kRows == 1);
        using AnyDot = typename Weights::SparseDot;
        const auto& input = *static_cast<const NonzeroInput*>(inputs[0]);
        const float* const x[] = {input.x};
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) sums[0][v] = InitialOf<Kernel>(block.initial, v);
        for (ptrdiff_t i = 0; i < input.count; ++i) {
            const ptrdiff_t k = input.places[i];
            const auto in = AnyDot::BroadcastInput(x, k);
            const auto* weights = block.weights + k * block.stride;
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) {
                sums[0][v] = AnyDot::template Add<0>(sums[0][v], LoadWeights<AnyDot>(weights + v * kLanes, 0), in);
            }
        }
    }
};

/// Compilers make vectors of this loop.
FUSEDCELL_INLINE bool HasNegativeZero(const float* y, ptrdiff_t size) {
    int32_t found = 0;
    for (ptrdiff_t i = 0; i < size; ++i) {
        int32_t bits;
        memcpy(&bits, y + i, sizeof bits);
        found |= bits == INT32_MIN;
    }
    return found != 0;
}

template <class Weights>
void RunNonzero(const PackedMatrix& matrix, const LinearRow* rows, ptrdiff_t num_rows, const BlockRange& blocks) {
    const ptrdiff_t outputs_of_block = matrix.panels_per_block * kLanes;
    const ptrdiff_t first = blocks.first * outputs_of_block;
    const ptrdiff_t end = blocks.last * outputs_of_block;
    for (ptrdiff_t r = 0; r < num_rows; ++r) {
        Run<Linear, AtPlaces<Weights>>(matrix, rows + r, 1, blocks);
        if (HasNegativeZero(rows[r].y + first, (end < matrix.columns ? end : matrix.columns) - first)) {
            const LinearRow row{static_cast<const NonzeroInput*>(rows[r].input)->x, rows[r].y};
            Run<Linear, Weights>(matrix, &row, 1, blocks);
        }
    }
}

// Inputs that are looked at together.
constexpr ptrdiff_t kLookedAt = 32;

/// How many of the inputs are not zero, but for what is left after whole kLookedAt.
FUSEDCELL_INLINE int32_t CountNonzeros(const float* x, ptrdiff_t size) {
    I32 counts = ZeroI32();
    for (ptrdiff_t k = 0; k + kLookedAt <= size; k += kLookedAt) {
        FUSEDCELL_UNROLL
        for (ptrdiff_t i = 0; i < kLookedAt; i += kLanes) counts = CountNonzero(counts, Load(x + k + i));
    }
    const I32 total = counts;    // of what goes to memory compilers keep no sum in a register
    int32_t lanes[kLanes];
    memcpy(lanes, &total, sizeof lanes);
    int32_t count = 0;
    for (const int32_t lane : lanes) count += lane;
    return count;
}

/// Denormals may be listed, which are zero all the same.
FUSEDCELL_NOINLINE bool ListPlaces(const float* x, ptrdiff_t size, uint16_t* places, NonzeroInput* out) {
    ptrdiff_t count = 0;
    for (ptrdiff_t first = 0; first < size; first += kLookedAt) {
        const ptrdiff_t end = size - first < kLookedAt ? size : first + kLookedAt;
        if (LargestMagnitude(x + first, end - first) == 0) continue;
        for (ptrdiff_t k = first; k < end; ++k) {
            uint32_t bits;
            memcpy(&bits, x + k, sizeof bits);
            places[count] = static_cast<uint16_t>(k);
            count += bits << 1 != 0;
        }
    }
    if (count == 0) places[count++] = 0;
    *out = {x, places, count};
    return true;
}

/// Counts first: that is quick, and most inputs are not zero.
[[maybe_unused]] bool ListNonzeros(const float* x, ptrdiff_t size, uint16_t* places, NonzeroInput* out) {
    return 2 * ptrdiff_t{CountNonzeros(x, size)} <= size && ListPlaces(x, size, places, out);
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
