// The cutting of panels and rows into register tiles, which every kernel shares; the loops over k are in weights.h.
//
// A kernel is a class with
//     Row                        one row's pointers
//     kGates                     vectors of a panel
//     kHasInitialAccumulators    whether the chain of a panel's last gate starts from a packed value rather than zero
//     kStoresSums                whether Finish only stores them
//     Finish(panels)             stores the results of a panel's sums, or of two panels' (pair.h)
#pragma once

#include "kernels/generic/pair.h"
#include "kernels/generic/weights.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// Vectors side by side in a tile of the most rows: the four gates of an LSTM.
constexpr int kTileVectors = 4;

// Rows of the tallest tile. A build, or a type of weights, that has no others for the sake of small code also goes
// without a tile for each number of panels that the last block can have.
#ifdef FUSEDCELL_WITHOUT_ROW_TILES
template <class Weights>
constexpr bool kPartsOfBlocks = true;
template <class Weights>
constexpr int kTallest = 1;
#else
template <class Weights>
constexpr bool kPartsOfBlocks = Weights::kSmallCode;
template <class Weights>
constexpr int kTallest = kOneRowAlone || Weights::kSmallCode ? 1 : Weights::kMostRows;
#endif

template <class Kernel, class Weights>
constexpr int kPanelsPerBlock = DivideUp(Weights::kRowChains, Kernel::kGates);

// Tiles of few rows are wider, up to the same number of accumulators: that gives enough chains, and reads the block in
// one pass. The tiles that a block needs are about equal. Of one row a block is a tile, unless an input has two planes.
template <class Kernel, class Weights, int kRows, int kPanels>
constexpr int kPanelsPerTile =
    kRows == 1 && !Weights::kSmallCode
        ? kPanels
        : DivideUp(kPanels, DivideUp(kPanels, AtLeastOne(Weights::kMostRows* kTileVectors / (kRows * Kernel::kGates))));

FUSEDCELL_INLINE ptrdiff_t UnitsOfPanel(const PackedMatrix& matrix, ptrdiff_t panel) {
    const ptrdiff_t units_left = matrix.columns - panel * kLanes;
    return units_left < kLanes ? units_left : kLanes;
}

// The gates of `panels` panels from `panel` on, for `num_rows` rows, whose sums are in memory. Two panels of a row at a
// time, or where there is one panel, two rows.
template <class Kernel>
FUSEDCELL_INLINE void FinishPanels(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                                   ptrdiff_t panel, ptrdiff_t panels, const F32* sums) {
    using Row = typename Kernel::Row;
    const auto at = [&](ptrdiff_t r, ptrdiff_t p, ptrdiff_t units) {
        return PanelSums<Row>{rows[r], panel + p, sums + (r * panels + p) * Kernel::kGates, units};
    };
    ptrdiff_t p = 0;
    ptrdiff_t paired_rows = 0;
    if constexpr (kPairsOfPanels && !Kernel::kStoresSums) {
        if (rows[0].trace == nullptr) {
            const ptrdiff_t whole = matrix.columns / kLanes - panel;
            if (panels > 1 || num_rows == 1) {
                const ptrdiff_t pairs_end = (whole < panels ? whole : panels) / 2 * 2;
                FUSEDCELL_NO_UNROLL
                for (ptrdiff_t r = 0; r < num_rows; ++r) {
                    FUSEDCELL_NO_UNROLL
                    for (p = 0; p < pairs_end; p += 2) {
                        Kernel::Finish(Neighbours<Row, Kernel::kGates>(at(r, p, kLanes)));
                    }
                }
            } else if (whole > 0) {
                FUSEDCELL_NO_UNROLL
                for (; paired_rows < num_rows - 1; paired_rows += 2) {
                    Kernel::Finish(OfTwoRows<Row>(at(paired_rows, 0, kLanes), at(paired_rows + 1, 0, kLanes)));
                }
            }
        }
    }
    FUSEDCELL_NO_UNROLL
    for (; p < panels; ++p) {
        const ptrdiff_t units = UnitsOfPanel(matrix, panel + p);
        FUSEDCELL_NO_UNROLL
        for (ptrdiff_t r = paired_rows; r < num_rows; ++r) Kernel::Finish(at(r, p, units));
    }
}

// The same where its code is apart from the tiles', for all of which there is one copy.
template <class Kernel>
FUSEDCELL_OPAQUE void FinishApart(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                                  ptrdiff_t panel, ptrdiff_t panels, const F32* sums) {
    FinishPanels<Kernel>(matrix, rows, num_rows, panel, panels, sums);
}

// Panels [panel, panel + kPanels) for kRows rows; `block` begins at the first of these panels, and has no others where
// kIsBlock.
template <class Kernel, class Weights, int kRows, int kPanels, bool kIsBlock = kRows == 1>
FUSEDCELL_TILE void Tile(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t panel,
                         const BlockView<Weights>& block) {
    constexpr int kVectors = kPanels * Kernel::kGates;
    F32 acc[kRows][kVectors];
    const void* inputs[kRows];
    FUSEDCELL_UNROLL
    for (int r = 0; r < kRows; ++r) inputs[r] = rows[r].input;
    Weights::template Sum<Kernel, kIsBlock, kRows, kVectors>(acc, block, inputs, matrix.depth);
    if constexpr (kGatesApart && Kernel::kStoresSums) {
        if (UnitsOfPanel(matrix, panel + kPanels - 1) == kLanes) {
            FUSEDCELL_UNROLL
            for (int r = 0; r < kRows; ++r) {
                const typename Kernel::Row row = rows[r];
                FUSEDCELL_UNROLL
                for (int p = 0; p < kPanels; ++p) {
                    Kernel::Finish(
                        PanelSums<typename Kernel::Row>{row, panel + p, acc[r] + p * Kernel::kGates, kLanes});
                }
            }
            return;
        }
    }
    if constexpr (kRows == 1 && !kGatesApart) {
        FUSEDCELL_UNROLL
        for (int p = 0; p < kPanels; ++p) {
            Kernel::Finish(PanelSums<typename Kernel::Row>{rows[0], panel + p, acc[0] + p * Kernel::kGates,
                                                           UnitsOfPanel(matrix, panel + p)});
        }
    } else {
        // Through memory, so that the gates are one small loop instead of kRows * kPanels copies of their code.
        F32 sums[kRows][kVectors];
        FUSEDCELL_UNROLL
        for (int r = 0; r < kRows; ++r) {
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) sums[r][v] = acc[r][v];
        }
        if constexpr (kGatesApart) {
            FinishApart<Kernel>(matrix, rows, kRows, panel, kPanels, sums[0]);
        } else {
            FinishPanels<Kernel>(matrix, rows, kRows, panel, kPanels, sums[0]);
        }
    }
}

// One block, kRows rows: tiles of kPanelsPerTile panels, then the panels that are left.
template <class Kernel, class Weights, int kRows, int kPanels>
FUSEDCELL_INLINE void BlockTiles(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t panel,
                                 const BlockView<Weights>& block) {
    constexpr int kTile = kPanelsPerTile<Kernel, Weights, kRows, kPanels>;
    constexpr int kWhole = kPanels / kTile * kTile;
    for (int p = 0; p < kWhole; p += kTile) {
        Tile<Kernel, Weights, kRows, kTile, kRows == 1 && kTile == kPanels>(matrix, rows, panel + p,
                                                                            block.template After<Kernel>(p));
    }
    if constexpr (kWhole < kPanels) {
        Tile<Kernel, Weights, kRows, kPanels - kWhole, false>(matrix, rows, panel + kWhole,
                                                              block.template After<Kernel>(kWhole));
    }
}

// One block, num_rows <= kRows rows.
template <class Kernel, class Weights, int kPanels, int kRows>
FUSEDCELL_INLINE void BlockRows(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                                ptrdiff_t panel, const BlockView<Weights>& block) {
    if constexpr (kRows == 1) {
        if (num_rows == 1) BlockTiles<Kernel, Weights, 1, kPanels>(matrix, rows, panel, block);
    } else {
        if (num_rows == kRows) {
            BlockTiles<Kernel, Weights, kRows, kPanels>(matrix, rows, panel, block);
        } else {
            BlockRows<Kernel, Weights, kPanels, kRows - 1>(matrix, rows, num_rows, panel, block);
        }
    }
}

/// How many of the rows that are left the next tile takes. Where tiles are tall enough for it, the last two share their
/// rows about evenly, because a tile of one or two rows is bound by its loads; and in pairs, which is what some int8
/// products take.
template <int kMostRows>
FUSEDCELL_INLINE ptrdiff_t RowsOfTile(ptrdiff_t left) {
    if (left <= kMostRows) return left;
    if (kMostRows < 6 || left >= 2 * kMostRows) return kMostRows;
    return (left + 3) / 4 * 2;
}

// All rows of one block; the block's weights stay in cache from one row tile to the next.
template <class Kernel, class Weights, int kPanels>
FUSEDCELL_INLINE void Block(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                            ptrdiff_t panel, const unsigned char* data) {
    const BlockView<Weights> block = ViewOfBlock<Kernel, Weights>(data, kPanels);
    if (num_rows == 1) {
        BlockTiles<Kernel, Weights, 1, kPanels>(matrix, rows, panel, block);
        return;
    }
    while (num_rows > 0) {
        const ptrdiff_t count = RowsOfTile<kTallest<Weights>>(num_rows);
        BlockRows<Kernel, Weights, kPanels, kTallest<Weights>>(matrix, rows, count, panel, block);
        rows += count;
        num_rows -= count;
    }
}

// The last block's panels, of which fewer than 2 kPanels are left, from `panel` on: as many at a time as the bits of
// their number say, from kPanels down. Another stride than a whole block's, and several passes over the inputs.
template <class Kernel, class Weights, int kPanels>
FUSEDCELL_INLINE void PartsOfBlock(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                                   ptrdiff_t panel, const BlockView<Weights>& block, ptrdiff_t panels) {
    if constexpr (kPanels > 0) {
        const ptrdiff_t taken = panels & kPanels;
        if (taken != 0) {
            FUSEDCELL_NO_UNROLL
            for (ptrdiff_t r = 0; r < num_rows; ++r) {
                Tile<Kernel, Weights, 1, kPanels, false>(matrix, rows + r, panel, block);
            }
        }
        PartsOfBlock<Kernel, Weights, kPanels / 2>(matrix, rows, num_rows, panel + taken,
                                                   block.template After<Kernel>(taken), panels);
    }
}

constexpr int LargestPowerOfTwo(int most) { return most > 1 ? 2 * LargestPowerOfTwo(most / 2) : 1; }

// The block that starts at `panel`, with the `panels` that are left from there, or kPanels of them.
template <class Kernel, class Weights, int kPanels>
FUSEDCELL_INLINE void AnyBlock(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                               ptrdiff_t panel, const unsigned char* block, ptrdiff_t panels) {
    if (panels >= kPanels) {
        Block<Kernel, Weights, kPanels>(matrix, rows, num_rows, panel, block);
    } else if constexpr (kPartsOfBlocks<Weights> && kPanels > 1) {
        PartsOfBlock<Kernel, Weights, LargestPowerOfTwo(kPanels - 1)>(
            matrix, rows, num_rows, panel, ViewOfBlock<Kernel, Weights>(block, panels), panels);
    } else if constexpr (kPanels > 1) {
        AnyBlock<Kernel, Weights, kPanels - 1>(matrix, rows, num_rows, panel, block, panels);
    }
}

template <class Kernel, class Weights>
void Run(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows, const BlockRange& blocks) {
    constexpr int kPanels = kPanelsPerBlock<Kernel, Weights>;
    const ptrdiff_t block_bytes = BytesOfBlock<Kernel, Weights>(kPanels, matrix.depth);
    const auto* data = static_cast<const unsigned char*>(matrix.data);
    ptrdiff_t i = blocks.backward ? blocks.last - 1 : blocks.first;
    const ptrdiff_t next = blocks.backward ? -1 : 1;
    for (ptrdiff_t left = blocks.last - blocks.first; left > 0; --left, i += next) {
        AnyBlock<Kernel, Weights, kPanels>(matrix, rows, num_rows, i * kPanels, data + i * block_bytes,
                                           matrix.panels - i * kPanels);
    }
}

/// Leaves the values of gates [first, first + count) of `units` units from `offset` on.
FUSEDCELL_INLINE void Trace(const StepTrace& trace, ptrdiff_t offset, ptrdiff_t units, int first, const F32* values,
                            int count) {
    if (trace.gates == nullptr) return;
    for (int i = 0; i < count; ++i) StoreUnits(trace.gates + (first + i) * trace.units + offset, values[i], units);
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
