// A step of one row in one pass: for each block of units its part of W x, then of R h, then its gates, so that W x
// never leaves the nearest cache and no matrix is walked by itself.
//
//     for each block of R        the same rows of W are a block of W: as many vectors, in the same order
//         p = b + W x            to memory, as AVX2 and NEON have no registers for the sums of a block and their
//                                weights
//         a = b' + R h           with the gates that follow, the tile of one row, which sequences use too
//         gates                  the cell's Finish, which takes p from there
//
// Where kHasStepTiles, W x is in the cell's tile, with p on the stack: a call less for each block. Elsewhere it is the
// tile of `linear`, which leaves p where passes over whole matrices would.
//
// The chains are those of `linear` and of the cell, and so are the bits. Blocks alternate in direction as ever. A block
// of h_next is written before the next one reads x, so these are apart.
#pragma once

#include "kernels/generic/quantise.h"
#include "kernels/generic/tile.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

/// The inputs of quantised weights, for all kernels; what is not usual goes to the tier's own function.
template <int kPlanes>
[[maybe_unused]] FUSEDCELL_NOINLINE void QuantiseStep(const StepRow& row, ptrdiff_t input_size, ptrdiff_t hidden_size) {
    if (row.x_scale.rule != InputScale::kLargest ||
        !HasScale(QuantiseByLargest<kPlanes>(row.x, input_size, row.quantised_x))) {
        const QuantiseRow x{row.x, row.quantised_x};
        row.quantise(&x, 1, input_size, row.x_scale);
    }
    if (row.h_scale.rule != InputScale::kBounded || !QuantiseBounded<kPlanes>(row.h, hidden_size, row.quantised_h)) {
        const QuantiseRow h{row.h, row.quantised_h};
        row.quantise(&h, 1, hidden_size, row.h_scale);
    }
}

template <class Kernel, class Weights, int kPanels>
FUSEDCELL_INLINE void StepBlock(const PackedMatrix& recurrent, const CellRow& row, ptrdiff_t panel, ptrdiff_t panels,
                                const unsigned char* block, const unsigned char* input_block, const void* x,
                                ptrdiff_t input_size) {
    if (panels >= kPanels) {
        BlockTile<Kernel, Weights, kPanels>(recurrent, row, panel, block, input_block, x, input_size);
    } else if constexpr (kPanels > 1) {
        StepBlock<Kernel, Weights, kPanels - 1>(recurrent, row, panel, panels, block, input_block, x, input_size);
    }
}

// The smallest first-level cache. Weights that are a little more come from the second level, which has nothing to do
// while gates wait for one another: then it gives the first lines of the next block. Of larger layers, of floats, and
// on AVX2 gates are too small a part for that to matter.
constexpr ptrdiff_t kNearestBytes = ptrdiff_t{32} << 10;
template <class Weights>
constexpr bool kAsksAhead = Weights::kQuantised && kLanes == 16;

[[maybe_unused]] FUSEDCELL_INLINE void AskFor(const unsigned char* block) {
    constexpr ptrdiff_t kBytes = ptrdiff_t{2} << 10;
    FUSEDCELL_NO_UNROLL
    for (ptrdiff_t i = 0; i < kBytes; i += 4 * kBlockAlignment) {
        FUSEDCELL_UNROLL
        for (ptrdiff_t line = 0; line < 4; ++line) FUSEDCELL_PREFETCH(block + i + line * kBlockAlignment);
    }
}

template <class Kernel, class Weights>
void Step(const PackedMatrix& input, const PackedMatrix& recurrent, const StepRow& row, bool backward) {
    constexpr int kPanels = kPanelsPerBlock<Kernel, Weights>;
    const void* x = row.x;
    CellRow cell;
    cell.input = cell.h = row.h;
    cell.h_next = row.h_next;
    cell.c = row.c;
    cell.projection = row.projection;
    cell.trace = nullptr;
    if constexpr (Weights::kQuantised) {
        QuantiseStep<Weights::kInputPlanes>(row, input.depth, recurrent.depth);
        x = row.quantised_x;
        cell.input = row.quantised_h;
    }
    const auto* data = static_cast<const unsigned char*>(recurrent.data);
    const auto* input_data = static_cast<const unsigned char*>(input.data);
    ptrdiff_t i = backward ? recurrent.blocks - 1 : 0;
    const ptrdiff_t next = backward ? -1 : 1;
    const ptrdiff_t bytes = input.blocks * input.block_bytes + recurrent.blocks * recurrent.block_bytes;
    [[maybe_unused]] const bool is_near = bytes > kNearestBytes && bytes < 8 * kNearestBytes;
    for (ptrdiff_t left = recurrent.blocks; left > 0; --left, i += next) {
        const ptrdiff_t panels = recurrent.panels - i * kPanels;
        const unsigned char* const block = data + i * recurrent.block_bytes;
        const unsigned char* const input_block = input_data + i * input.block_bytes;
        if constexpr (kHasStepTiles) {
            StepBlock<Kernel, Weights, kPanels>(recurrent, cell, i * kPanels, panels, block, input_block, x,
                                                input.depth);
            if constexpr (kAsksAhead<Weights>) {
                if (is_near && left > 1) AskFor(input_block + next * input.block_bytes);
            }
        } else {
            const LinearRow projection{x, row.projection};
            const ptrdiff_t taken = panels < kPanels ? panels : kPanels;
            RowOfAnyBlock<Linear, Weights>(input, projection, i * kPanels * Kernel::kGates, input_block,
                                           taken * Kernel::kGates);
            RowOfAnyBlock<Kernel, Weights>(recurrent, cell, i * kPanels, block, taken);
        }
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
