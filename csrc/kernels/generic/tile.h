// The cutting of panels and rows into register tiles, which every kernel shares; the loops over k are in weights.h.
//
// A kernel is a class with
//     Row                        one row's pointers
//     kGates                     vectors of a panel
//     kHasInitialAccumulators    whether the chain of a panel's last gate starts from a packed value rather than zero
//     kStoresSums                whether Finish only stores them
//     kProjections               vectors of the input projection that belong to a panel
//     Finish(panels)             stores the results of a panel's sums, or of two panels' (pair.h)
#pragma once

#include "kernels/generic/linear.h"
#include "kernels/generic/pair.h"
#include "kernels/generic/weights.h"
#include "kernels/kept.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// Vectors side by side in a tile of the most rows: the four gates of an LSTM.
constexpr int kTileVectors = 4;

// A build without tiles of several rows is one for small code.
#ifdef FUSEDCELL_WITHOUT_ROW_TILES
constexpr bool kRowTiles = false;
#else
constexpr bool kRowTiles = true;
#endif
template <class Weights>
constexpr int kTallest =
    !kRowTiles || kOneRowAlone || Weights::kSmallCode                                       ? 1
    : Weights::kMostRows == kTileRows && sizeof(typename Weights::Element) == sizeof(float) ? kTallTileRows
                                                                                            : Weights::kMostRows;

// Accumulators of a tile of several rows, and vectors side by side in the tallest.
template <class Weights>
constexpr int kTileAccumulators = Weights::kMostRows * kTileVectors;
template <class Weights>
constexpr int kTallVectors = kTileAccumulators<Weights> / kTallest<Weights>;

// Whether the last block's panels are taken a few at a time, rather than by a tile for each number of them.
template <class Weights>
constexpr bool kPartsOfBlocks = !kRowTiles || Weights::kSmallCode;

// Whether a step of one row is one pass over both matrices, and has tiles of its own for it (step.h), which are long
// where gates are apart.
#ifdef FUSEDCELL_TWO_PASSES
constexpr bool kHasSteps = false;
#else
constexpr bool kHasSteps = kRowTiles;
#endif
constexpr bool kHasStepTiles = kRowTiles && !kGatesApart;
template <class Kernel, class Weights>
constexpr bool kHasStep = kHasSteps && Weights::kSteps && Kernel::kProjections == Kernel::kGates;

template <class Kernel, class Weights>
constexpr int kPanelsPerBlock = DivideUp(Weights::kRowChains, Kernel::kGates);

// Vectors of the GRU's block or the LSTM's, as they are filled up to whole panels.
template <class Weights>
constexpr int kMostVectorsPerBlock = DivideUp(Weights::kRowChains, 3) * 3 > DivideUp(Weights::kRowChains, 4) * 4
                                         ? DivideUp(Weights::kRowChains, 3) * 3
                                         : DivideUp(Weights::kRowChains, 4) * 4;

// Panels of the largest block: `linear` also takes blocks of as many vectors as the cells', so that those of W can have
// the rows of those of R.
template <class Kernel, class Weights>
constexpr int kMostPanelsPerBlock = kPanelsPerBlock<Kernel, Weights>;
template <class Weights>
constexpr int kMostPanelsPerBlock<Linear, Weights> =
    kHasSteps && Weights::kSteps ? kMostVectorsPerBlock<Weights> : Weights::kRowChains;

// Of a block's or a last block's panels, those of one tile. Tiles of few rows are wider, up to the same number of
// accumulators: that gives enough chains, and reads the block in one pass. The tiles that a block needs are about
// equal.
template <class Kernel, class Weights>
constexpr ptrdiff_t PanelsPerTile(ptrdiff_t rows, ptrdiff_t panels) {
    const ptrdiff_t most = kTileAccumulators<Weights> / (Weights::kInputPlanes * rows * Kernel::kGates);
    const ptrdiff_t tiles = most > 1 ? (panels + most - 1) / most : panels;
    return (panels + tiles - 1) / tiles;
}

// Of one row a block is a tile, unless an input has two planes.
template <class Kernel, class Weights, int kPanels>
constexpr int kPanelsPerRowTile =
    Weights::kSmallCode ? static_cast<int>(PanelsPerTile<Kernel, Weights>(1, kPanels)) : kPanels;

FUSEDCELL_INLINE ptrdiff_t UnitsOfPanel(const PackedMatrix& matrix, ptrdiff_t panel) {
    const ptrdiff_t units_left = matrix.columns - panel * kLanes;
    return units_left < kLanes ? units_left : kLanes;
}

/// Where a row leaves its gates: null where nobody wants them, as nobody can in the C++ library.
FUSEDCELL_INLINE const StepTrace* TraceOf(const CellRow& row) { return kForPython ? row.trace : nullptr; }

// Where the input projection of a panel is in memory.
template <class Kernel>
FUSEDCELL_INLINE const float* ProjectionOf(const CellRow& row, ptrdiff_t panel) {
    return row.projection + panel * Kernel::kProjections * kLanes;
}
template <class Kernel>
FUSEDCELL_INLINE const float* ProjectionOf(const LinearRow&, ptrdiff_t) {
    return nullptr;
}

// Whether gates are less than a call of them: those of RNNs on x86-64.
template <class Kernel>
constexpr bool kSmallGates = !kGatesApart && Kernel::kGates == 1;

// The gates of `panels` panels from `panel` on, for `num_rows` rows, whose sums are in memory. Two panels of a row at a
// time, or where there is one panel, two rows.
template <class Kernel>
FUSEDCELL_INLINE void FinishPanels(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                                   ptrdiff_t panel, ptrdiff_t panels, const F32* sums) {
    using Row = typename Kernel::Row;
    const auto at = [&](ptrdiff_t r, ptrdiff_t p, ptrdiff_t units) {
        return PanelSums<Row>{rows[r], panel + p, sums + (r * panels + p) * Kernel::kGates, units,
                              ProjectionOf<Kernel>(rows[r], panel + p)};
    };
    ptrdiff_t p = 0;
    ptrdiff_t paired_rows = 0;
    if constexpr (kPairsOfPanels && !Kernel::kStoresSums && !kSmallGates<Kernel>) {
        if (TraceOf(rows[0]) == nullptr) {
            const ptrdiff_t whole = matrix.columns / kLanes - panel;
            if (panels > 1 || num_rows == 1) {
                const ptrdiff_t pairs_end = (whole < panels ? whole : panels) / 2 * 2;
                FUSEDCELL_NO_UNROLL
                for (ptrdiff_t r = 0; r < num_rows; ++r) {
                    FUSEDCELL_NO_UNROLL
                    for (p = 0; p < pairs_end; p += 2) {
                        Kernel::Finish(Neighbours<Row, Kernel::kGates>{at(r, p, kLanes), kLanes});
                    }
                }
            } else if (whole > 0) {
                FUSEDCELL_NO_UNROLL
                for (; paired_rows < num_rows - 1; paired_rows += 2) {
                    Kernel::Finish(OfTwoRows<Row>{at(paired_rows, 0, kLanes), at(paired_rows + 1, 0, kLanes)});
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

// The same, of which there is one copy.
template <class Kernel>
FUSEDCELL_OPAQUE void FinishApart(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                                  ptrdiff_t panel, ptrdiff_t panels, const F32* sums) {
    FinishPanels<Kernel>(matrix, rows, num_rows, panel, panels, sums);
}

template <class Kernel, class Weights>
FUSEDCELL_INLINE void FinishRows(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                                 ptrdiff_t panel, ptrdiff_t panels, const F32* sums) {
    if constexpr (kSmallGates<Kernel> && sizeof(typename Weights::Element) != sizeof(uint16_t)) {
        FinishPanels<Kernel>(matrix, rows, num_rows, panel, panels, sums);
    } else {
        FinishApart<Kernel>(matrix, rows, num_rows, panel, panels, sums);
    }
}

// The same of a tile of one row, whose sums are in registers.
template <class Kernel, int kPanels>
FUSEDCELL_INLINE void FinishTileApart(const PackedMatrix& matrix, const typename Kernel::Row& row, ptrdiff_t panel,
                                      const F32 (&acc)[1][kPanels * Kernel::kGates]) {
    F32 sums[kPanels * Kernel::kGates];
    FUSEDCELL_UNROLL
    for (int v = 0; v < kPanels * Kernel::kGates; ++v) sums[v] = acc[0][v];
    FinishApart<Kernel>(matrix, &row, 1, panel, kPanels, sums);
}

template <class Kernel, int kPanels>
FUSEDCELL_INLINE void FinishTile(const PackedMatrix& matrix, const typename Kernel::Row& row, ptrdiff_t panel,
                                 const F32 (&acc)[1][kPanels * Kernel::kGates],
                                 [[maybe_unused]] const float* projection) {
    using Row = typename Kernel::Row;
    const auto panel_of = [&](const Row& of, int p, ptrdiff_t units) {
        return PanelSums<Row>{of, panel + p, acc[0] + p * Kernel::kGates, units,
                              projection + p * Kernel::kProjections * kLanes};
    };
    if constexpr (kGatesApart) {
        if (Kernel::kStoresSums && UnitsOfPanel(matrix, panel + kPanels - 1) == kLanes) {
            const Row copy = row;
            FUSEDCELL_UNROLL
            for (int p = 0; p < kPanels; ++p) Kernel::Finish(panel_of(copy, p, kLanes));
        } else {
            FinishTileApart<Kernel, kPanels>(matrix, row, panel, acc);
        }
    } else if constexpr (kPairsOfPanels && kPanels == 2 && !Kernel::kStoresSums) {
        if (TraceOf(row) == nullptr) {
            Kernel::Finish(Neighbours<Row, Kernel::kGates>{panel_of(row, 0, kLanes), UnitsOfPanel(matrix, panel + 1)});
        } else {
            FinishTileApart<Kernel, kPanels>(matrix, row, panel, acc);
        }
    } else {
        FUSEDCELL_UNROLL
        for (int p = 0; p < kPanels; ++p) Kernel::Finish(panel_of(row, p, UnitsOfPanel(matrix, panel + p)));
    }
}

// A block of one row. `input_block` is the block of W with the same rows, which x, of `input_size`, is multiplied by
// for the input projection; null where that is in memory.
template <class Kernel, class Weights, int kPanels>
FUSEDCELL_TILE FUSEDCELL_NOCLONE void BlockTile(const PackedMatrix& matrix, const typename Kernel::Row& row,
                                                ptrdiff_t panel, const unsigned char* block,
                                                [[maybe_unused]] const unsigned char* input_block,
                                                [[maybe_unused]] const void* x, [[maybe_unused]] ptrdiff_t input_size) {
    constexpr int kVectors = kPanels * Kernel::kGates;
    F32 acc[1][kVectors];
    const float* projection = ProjectionOf<Kernel>(row, panel);
    [[maybe_unused]] alignas(64) float projected[kVectors * kLanes];
    if constexpr (kHasStep<Kernel, Weights> && kHasStepTiles) {
        if (input_block != nullptr) {
            const void* const inputs[] = {x};
            Weights::template Sum<Linear, true, 1, kVectors>(acc, ViewOfBlock<Linear, Weights>(input_block, kVectors),
                                                             inputs, input_size);
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) Store(projected + v * kLanes, acc[0][v]);
            projection = projected;
        }
    }
    const void* const inputs[] = {row.input};
    Weights::template Sum<Kernel, true, 1, kVectors>(acc, ViewOfBlock<Kernel, Weights>(block, kPanels), inputs,
                                                     matrix.depth);
    FinishTile<Kernel, kPanels>(matrix, row, panel, acc, projection);
}

// Panels [panel, panel + kPanels) of one row; `block` begins at the first of these panels, and has others.
template <class Kernel, class Weights, int kPanels>
FUSEDCELL_TILE void Tile(const PackedMatrix& matrix, const typename Kernel::Row& row, ptrdiff_t panel,
                         const BlockView<Weights>& block) {
    F32 acc[1][kPanels * Kernel::kGates];
    const void* const inputs[] = {row.input};
    Weights::template Sum<Kernel, false, 1, kPanels * Kernel::kGates>(acc, block, inputs, matrix.depth);
    FinishTile<Kernel, kPanels>(matrix, row, panel, acc, ProjectionOf<Kernel>(row, panel));
}

// One block, one row: tiles of kPanelsPerRowTile panels, then the panels that are left.
template <class Kernel, class Weights, int kPanels>
FUSEDCELL_INLINE void RowOfBlock(const PackedMatrix& matrix, const typename Kernel::Row& row, ptrdiff_t panel,
                                 const unsigned char* data) {
    constexpr int kTile = kPanelsPerRowTile<Kernel, Weights, kPanels>;
    constexpr int kWhole = kPanels / kTile * kTile;
    if constexpr (kTile == kPanels) {
        BlockTile<Kernel, Weights, kPanels>(matrix, row, panel, data, nullptr, nullptr, 0);
    } else {
        const BlockView<Weights> block = ViewOfBlock<Kernel, Weights>(data, kPanels);
        for (int p = 0; p < kWhole; p += kTile) {
            Tile<Kernel, Weights, kTile>(matrix, row, panel + p, block.template After<Kernel>(p));
        }
        if constexpr (kWhole < kPanels) {
            Tile<Kernel, Weights, kPanels - kWhole>(matrix, row, panel + kWhole, block.template After<Kernel>(kWhole));
        }
    }
}

// The last block's panels, of which fewer than 2 kPanels are left, from `panel` on: as many at a time as the bits of
// their number say, from kPanels down. Another stride than a whole block's, and several passes over the inputs.
template <class Kernel, class Weights, int kPanels>
FUSEDCELL_INLINE void PartsOfBlock(const PackedMatrix& matrix, const typename Kernel::Row& row, ptrdiff_t panel,
                                   const BlockView<Weights>& block, ptrdiff_t panels) {
    if constexpr (kPanels > 0) {
        const ptrdiff_t taken = panels & kPanels;
        if (taken != 0) Tile<Kernel, Weights, kPanels>(matrix, row, panel, block);
        PartsOfBlock<Kernel, Weights, kPanels / 2>(matrix, row, panel + taken, block.template After<Kernel>(taken),
                                                   panels);
    }
}

constexpr int LargestPowerOfTwo(int most) { return most > 1 ? 2 * LargestPowerOfTwo(most / 2) : 1; }

// Of one row, the block that starts at `panel`, with the `panels` that are left from there, or kPanels of them.
template <class Kernel, class Weights, int kPanels = kMostPanelsPerBlock<Kernel, Weights>>
FUSEDCELL_INLINE void RowOfAnyBlock(const PackedMatrix& matrix, const typename Kernel::Row& row, ptrdiff_t panel,
                                    const unsigned char* data, ptrdiff_t panels) {
    if (panels >= kPanels) {
        RowOfBlock<Kernel, Weights, kPanels>(matrix, row, panel, data);
    } else if constexpr (kPartsOfBlocks<Weights> && kPanels > 1) {
        PartsOfBlock<Kernel, Weights, LargestPowerOfTwo(kPanels - 1)>(
            matrix, row, panel, ViewOfBlock<Kernel, Weights>(data, panels), panels);
    } else if constexpr (kPanels > 1) {
        RowOfAnyBlock<Kernel, Weights, kPanels - 1>(matrix, row, panel, data, panels);
    }
}

// Whether several rows go through a matrix that no near cache holds in groups (RowsOfFarBlock), and how many are in the
// first tile of a group, which is as wide as a block.
template <class Weights>
constexpr bool kFarGroups = kGroupsFarRows && kTallest<Weights> > 1 && !Weights::kQuantised &&
                            sizeof(typename Weights::Element) == sizeof(float);
template <class Weights>
constexpr ptrdiff_t kFirstRows = kTileAccumulators<Weights> >= 2 * kMostVectorsPerBlock<Weights> ? 2 : 1;

// What a tile of several rows takes the sums of: any kernel's vectors, each with a value that its chain starts from.
struct AnyGates {
    static constexpr int kGates = 1;
    static constexpr bool kHasInitialAccumulators = true;
};

/// y[r][v], as Weights has them; one copy for all kernels, since it knows nothing of gates. Without initial values the
/// chains, of floats, go on from y.
template <class Weights, int kRows, int kVectors>
FUSEDCELL_TILE void SumRows(const BlockView<Weights>& block, const void* const* inputs, ptrdiff_t depth,
                            float* const* y) {
    F32 acc[kRows][kVectors];
    const void* x[kRows];
    FUSEDCELL_UNROLL
    for (int r = 0; r < kRows; ++r) x[r] = inputs[r];
    if constexpr (kFarGroups<Weights>) {
        FUSEDCELL_UNROLL
        for (int r = 0; r < kRows; ++r) {
            const float* const from = block.initial == nullptr ? y[r] : block.initial;
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) acc[r][v] = Load(from + v * kLanes);
        }
        Weights::template Continue<false>(acc, block, x, depth);
    } else {
        Weights::template Sum<AnyGates, false, kRows, kVectors>(acc, block, x, depth);
    }
    FUSEDCELL_UNROLL
    for (int r = 0; r < kRows; ++r) {
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) Store(y[r] + v * kLanes, acc[r][v]);
    }
}

// SumRows for each height and width of a tile: from two rows up to kTallest, with as many vectors as fit the registers;
// from one row where that is the first tile of a group.
template <class Weights>
struct SumRowsOf {
    using Function = void(const BlockView<Weights>&, const void* const*, ptrdiff_t, float* const*);
    static constexpr int kMostVectors = kMostVectorsPerBlock<Weights>;
    static constexpr int Widest(int rows) {
        const int fitting = kTileAccumulators<Weights> / rows;
        return fitting < kMostVectors ? fitting : kMostVectors;
    }

    static constexpr int kLeastRows = kFarGroups<Weights> && kFirstRows<Weights> == 1 ? 1 : 2;
    Function* of[kTallest<Weights> + 1][kMostVectors + 1] = {};

    template <int kRows, int kVectors>
    constexpr void Fill() {
        of[kRows][kVectors] = &SumRows<Weights, kRows, kVectors>;
        if constexpr (kVectors > 1) {
            Fill<kRows, kVectors - 1>();
        } else if constexpr (kRows > kLeastRows) {
            Fill<kRows - 1, Widest(kRows - 1)>();
        }
    }
    constexpr SumRowsOf() { Fill<kTallest<Weights>, Widest(kTallest<Weights>)>(); }
};
template <class Weights>
constexpr SumRowsOf<Weights> kSumRows;

template <class Weights>
constexpr float kStartsAtZero[SumRowsOf<Weights>::kMostVectors * kLanes] = {};

/// Where the vectors of a block start from, each by itself, as AnyGates has them; in `memory` where they do not lie so
/// already.
template <class Kernel, class Weights>
FUSEDCELL_INLINE const float* InitialOfVectors(const BlockView<Weights>& block, ptrdiff_t vectors, float* memory) {
    if constexpr (!Kernel::kHasInitialAccumulators) {
        return kStartsAtZero<Weights>;
    } else if constexpr (Kernel::kGates == 1) {
        return block.initial;
    } else {
        for (int v = 0; v < vectors; ++v) Store(memory + v * kLanes, InitialOf<Kernel>(block.initial, v));
        return memory;
    }
}

// PanelsPerTile of each number of rows and panels, since a tile may take no longer than its divisions.
template <class Kernel, class Weights>
struct TileWidths {
    signed char of[kTallest<Weights> + 1][kMostPanelsPerBlock<Kernel, Weights> + 1] = {};
    constexpr TileWidths() {
        for (int rows = 1; rows <= kTallest<Weights>; ++rows) {
            for (int panels = 1; panels <= kMostPanelsPerBlock<Kernel, Weights>; ++panels) {
                of[rows][panels] = static_cast<signed char>(PanelsPerTile<Kernel, Weights>(rows, panels));
            }
        }
    }
};
template <class Kernel, class Weights>
constexpr TileWidths<Kernel, Weights> kTileWidths;

/// How many of the rows that are left the next tile takes. Where tiles are tall enough for it, the last two share their
/// rows about evenly, because a tile of one or two rows is bound by its loads; and in pairs, which is what some int8
/// products take.
template <int kMostRows>
FUSEDCELL_INLINE ptrdiff_t RowsOfTile(ptrdiff_t left) {
    if (left <= kMostRows) return left;
    if (kMostRows < 6 || left >= 2 * kMostRows) return kMostRows;
    return (left + 3) / 4 * 2;
}

/// The same of a block of `vectors` vectors, of which a tile takes a multiple of kGates: the tallest tiles are for
/// blocks that they part evenly, as others lose more by narrow tiles than they gain.
template <class Weights, int kGates>
FUSEDCELL_INLINE ptrdiff_t RowsOfTile(ptrdiff_t left, [[maybe_unused]] ptrdiff_t vectors) {
    constexpr int kWide = kTallVectors<Weights>;
    if constexpr (kTallest<Weights> > Weights::kMostRows) {
        const bool is_even = vectors % kWide == 0 || vectors < kWide;
        if (kWide % kGates == 0 && is_even) return RowsOfTile<kTallest<Weights>>(left);
        return RowsOfTile<Weights::kMostRows>(left);
    } else {
        return RowsOfTile<kTallest<Weights>>(left);
    }
}

// All rows of one block of `panels` panels; its weights stay in cache from one tile to the next.
template <class Kernel, class Weights>
FUSEDCELL_NOINLINE void RowsOfBlock(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                                    ptrdiff_t panel, const unsigned char* data, ptrdiff_t panels,
                                    [[maybe_unused]] bool is_far) {
    constexpr int kMostRows = kTallest<Weights>;
    if constexpr (kMostRows > 1) {
        const BlockView<Weights> block = ViewOfBlock<Kernel, Weights>(data, panels);
        float memory[SumRowsOf<Weights>::kMostVectors * kLanes];
        const float* const initial = InitialOfVectors<Kernel>(block, panels * Kernel::kGates, memory);
        F32 sums[kTileAccumulators<Weights>];
        while (num_rows > 1) {
            const ptrdiff_t count = RowsOfTile<Weights, Kernel::kGates>(num_rows, panels * Kernel::kGates);
            const void* inputs[kMostRows];
            for (ptrdiff_t r = 0; r < count; ++r) inputs[r] = rows[r].input;
            const ptrdiff_t tile = kTileWidths<Kernel, Weights>.of[count][panels];
            for (ptrdiff_t p = 0, taken = 0; p < panels; p += taken) {
                taken = panels - p < tile ? panels - p : tile;
                const ptrdiff_t vectors = taken * Kernel::kGates;
                BlockView<Weights> part = block.template After<Kernel>(p);
                part.initial = initial + p * Kernel::kGates * kLanes;
                const bool is_done = Kernel::kStoresSums && UnitsOfPanel(matrix, panel + p + taken - 1) == kLanes;
                float* y[kMostRows];
                for (ptrdiff_t r = 0; r < count; ++r) {
                    y[r] = reinterpret_cast<float*>(sums + r * vectors);
                    if constexpr (Kernel::kStoresSums) {
                        if (is_done) y[r] = rows[r].y + (panel + p) * kLanes;
                    }
                }
                if constexpr (Kernel::kStoresSums && kPrefetchRows <= Weights::kMostRows) {
                    const ptrdiff_t far_rows = is_far && is_done ? count : 0;
                    FUSEDCELL_NO_UNROLL
                    for (ptrdiff_t r = 0; r < far_rows; ++r) {
                        for (ptrdiff_t v = 0; v < vectors; ++v) FUSEDCELL_PREFETCH(y[r] + v * kLanes);
                    }
                }
                kSumRows<Weights>.of[count][vectors](part, inputs, matrix.depth, y);
                if (!is_done) FinishRows<Kernel, Weights>(matrix, rows, count, panel + p, taken, sums);
            }
            rows += count;
            num_rows -= count;
        }
    }
    for (; num_rows > 0; --num_rows, ++rows) RowOfAnyBlock<Kernel, Weights>(matrix, *rows, panel, data, panels);
}

// Rows of a group: a few of the tallest tiles.
template <class Weights>
constexpr ptrdiff_t kMostRowsOfGroup = 6 * Weights::kMostRows;

/// Sums of a group of rows, `vectors` of each row, of a block that is read from the third-level cache or from memory.
/// CPUs fetch ahead where that is read line after line, which a tile that is narrower than the block does not do. So
/// the group goes through a part of the depth that the second-level cache holds, of which the first tile takes whole
/// lines, before it comes to the next part; sums wait in memory meanwhile.
template <class Weights>
FUSEDCELL_NOINLINE void SumGroup(const BlockView<Weights>& block, const float* initial, const void* const* inputs,
                                 ptrdiff_t group, ptrdiff_t depth, ptrdiff_t vectors, float* sums) {
    constexpr ptrdiff_t kPartBytes = ptrdiff_t{128} << 10;
    const ptrdiff_t depth_of_part = kPartBytes / (block.stride * ptrdiff_t{sizeof(float)});
    for (ptrdiff_t k = 0; k < depth; k += depth_of_part) {
        const ptrdiff_t depth_of_tile = depth - k < depth_of_part ? depth - k : depth_of_part;
        for (ptrdiff_t first = 0, count = 0; first < group; first += count) {
            // Where tiles are for two rows or more, none is left alone.
            const bool is_first = first == 0 && (kFirstRows<Weights> == 1 || group != 3);
            count = is_first ? kFirstRows<Weights> : RowsOfTile<Weights, 1>(group - first, vectors);
            const ptrdiff_t widest = SumRowsOf<Weights>::Widest(static_cast<int>(count));
            const ptrdiff_t tiles = (vectors + widest - 1) / widest;
            const ptrdiff_t width = (vectors + tiles - 1) / tiles;
            for (ptrdiff_t v = 0, taken = 0; v < vectors; v += taken) {
                taken = vectors - v < width ? vectors - v : width;
                const void* x[kTallest<Weights>];
                float* y[kTallest<Weights>];
                for (ptrdiff_t r = 0; r < count; ++r) {
                    x[r] = static_cast<const float*>(inputs[first + r]) + k;
                    y[r] = sums + ((first + r) * vectors + v) * kLanes;
                }
                BlockView<Weights> part = block;
                part.initial = k == 0 ? initial + v * kLanes : nullptr;
                part.weights += k * block.stride + v * kLanes;
                kSumRows<Weights>.of[count][taken](part, x, depth_of_tile, y);
            }
        }
    }
}

template <class Kernel, class Weights>
FUSEDCELL_NOINLINE void RowsOfFarBlock(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                                       ptrdiff_t panel, const unsigned char* data, ptrdiff_t panels) {
    constexpr ptrdiff_t kMost = kMostRowsOfGroup<Weights>;
    const BlockView<Weights> block = ViewOfBlock<Kernel, Weights>(data, panels);
    const ptrdiff_t vectors = panels * Kernel::kGates;
    float memory[SumRowsOf<Weights>::kMostVectors * kLanes];
    const float* const initial = InitialOfVectors<Kernel>(block, vectors, memory);
    F32 sums[kMost * SumRowsOf<Weights>::kMostVectors];
    while (num_rows > 0) {
        const ptrdiff_t group = num_rows <= kMost ? num_rows : num_rows == kMost + 1 ? kMost - 1 : kMost;
        const void* inputs[kMost];
        for (ptrdiff_t r = 0; r < group; ++r) inputs[r] = rows[r].input;
        SumGroup<Weights>(block, initial, inputs, group, matrix.depth, vectors, reinterpret_cast<float*>(sums));
        FinishApart<Kernel>(matrix, rows, group, panel, panels, sums);
        rows += group;
        num_rows -= group;
    }
}

template <class Kernel, class Weights>
void Run(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows, const BlockRange& blocks) {
    const ptrdiff_t whole = matrix.panels_per_block;
    const auto* data = static_cast<const unsigned char*>(matrix.data);
    ptrdiff_t i = blocks.backward ? blocks.last - 1 : blocks.first;
    const ptrdiff_t next = blocks.backward ? -1 : 1;
    constexpr ptrdiff_t kFarBytes = ptrdiff_t{8} << 20;    // more than any second-level cache has
    [[maybe_unused]] const bool is_far_matrix = matrix.blocks * matrix.block_bytes >= kFarBytes;
    for (ptrdiff_t left = blocks.last - blocks.first; left > 0; --left, i += next) {
        const ptrdiff_t panels_left = matrix.panels - i * whole;
        const ptrdiff_t panels = panels_left < whole ? panels_left : whole;
        if constexpr (kTallest<Weights> == 1) {
            FUSEDCELL_NO_UNROLL
            for (ptrdiff_t r = 0; r < num_rows; ++r) {
                RowOfAnyBlock<Kernel, Weights>(matrix, rows[r], i * whole, data + i * matrix.block_bytes, panels);
            }
        } else if (num_rows == 1) {
            RowOfAnyBlock<Kernel, Weights>(matrix, *rows, i * whole, data + i * matrix.block_bytes, panels);
        } else {
            if constexpr (kFarGroups<Weights>) {
                if (is_far_matrix && num_rows > kFirstRows<Weights>) {
                    RowsOfFarBlock<Kernel, Weights>(matrix, rows, num_rows, i * whole, data + i * matrix.block_bytes,
                                                    panels);
                    continue;
                }
            }
            RowsOfBlock<Kernel, Weights>(matrix, rows, num_rows, i * whole, data + i * matrix.block_bytes, panels,
                                         blocks.is_far);
        }
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
