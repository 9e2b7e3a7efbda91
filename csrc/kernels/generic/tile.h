// The one loop over packed weights that every kernel shares, and the cutting of panels and rows into register tiles.
//
// A kernel is a class with
//     Row                        one row's pointers
//     kGates                     vectors of a panel
//     kHasInitialAccumulators    whether its chains start from packed values rather than zero
//     Input(row)                 the `depth` floats that multiply the weights
//     Finish(row, panel, acc, units)   turns the panel's kGates accumulators into stored results for `units` lanes
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// Vectors side by side in a tile of several rows: the four gates of an LSTM.
constexpr int kTileVectors = 4;

constexpr int AtLeastOne(int n) { return n < 1 ? 1 : n; }

template <class Kernel>
constexpr int kPanelsPerBlock = (kChains + Kernel::kGates - 1) / Kernel::kGates;
template <class Kernel>
constexpr int kPanelsPerTile = AtLeastOne(kTileVectors / Kernel::kGates);

template <class Weights, int kRows, int kVectors>
FUSEDCELL_INLINE void Accumulate(F32 (&acc)[kRows][kVectors], const typename Weights::Element* weights,
                                 ptrdiff_t stride, const float* const (&inputs)[kRows], ptrdiff_t depth) {
    for (ptrdiff_t k = 0; k < depth; ++k) {
        F32 x[kRows];
        FUSEDCELL_UNROLL
        for (int r = 0; r < kRows; ++r) x[r] = Broadcast(inputs[r][k]);
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            const F32 w = Weights::LoadWide(weights + v * kLanes);
            FUSEDCELL_UNROLL
            for (int r = 0; r < kRows; ++r) acc[r][v] = MulAdd(w, x[r], acc[r][v]);
        }
        weights += stride;
    }
}

FUSEDCELL_INLINE ptrdiff_t UnitsOfPanel(const PackedMatrix& matrix, ptrdiff_t panel) {
    const ptrdiff_t units_left = matrix.columns - panel * kLanes;
    return units_left < kLanes ? units_left : kLanes;
}

// Panels [panel, panel + kPanels) for kRows rows. `initial` and `weights` point at the first of these panels.
template <class Kernel, class Weights, int kRows, int kPanels>
FUSEDCELL_NOINLINE void Tile(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t panel,
                             const float* initial, const typename Weights::Element* weights, ptrdiff_t stride) {
    constexpr int kVectors = kPanels * Kernel::kGates;
    F32 acc[kRows][kVectors];
    const float* inputs[kRows];
    FUSEDCELL_UNROLL
    for (int r = 0; r < kRows; ++r) inputs[r] = Kernel::Input(rows[r]);
    FUSEDCELL_UNROLL
    for (int v = 0; v < kVectors; ++v) {
        const F32 start = Kernel::kHasInitialAccumulators ? Load(initial + v * kLanes) : Zero();
        FUSEDCELL_UNROLL
        for (int r = 0; r < kRows; ++r) acc[r][v] = start;
    }
    Accumulate<Weights, kRows, kVectors>(acc, weights, stride, inputs, matrix.depth);
    if constexpr (kRows == 1) {
        FUSEDCELL_UNROLL
        for (int p = 0; p < kPanels; ++p) {
            Kernel::Finish(rows[0], panel + p, acc[0] + p * Kernel::kGates, UnitsOfPanel(matrix, panel + p));
        }
    } else {
        // Through memory, so that the gates are one small loop instead of kRows * kPanels copies of their code.
        F32 sums[kRows][kVectors];
        FUSEDCELL_UNROLL
        for (int r = 0; r < kRows; ++r) {
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) sums[r][v] = acc[r][v];
        }
        FUSEDCELL_NO_UNROLL
        for (int p = 0; p < kPanels; ++p) {
            const ptrdiff_t units = UnitsOfPanel(matrix, panel + p);
            FUSEDCELL_NO_UNROLL
            for (int r = 0; r < kRows; ++r) Kernel::Finish(rows[r], panel + p, sums[r] + p * Kernel::kGates, units);
        }
    }
}

// One block, kRows > 1 rows: tiles of kPanelsPerTile panels, then the panels that are left.
template <class Kernel, class Weights, int kRows, int kPanels>
FUSEDCELL_INLINE void BlockTiles(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t panel,
                                 const float* initial, const typename Weights::Element* weights, ptrdiff_t stride) {
    constexpr int kTile = kPanelsPerTile<Kernel>;
    constexpr ptrdiff_t kPanelFloats = Kernel::kGates * kLanes;
    constexpr int kWhole = kPanels / kTile * kTile;
    for (int p = 0; p < kWhole; p += kTile) {
        Tile<Kernel, Weights, kRows, kTile>(matrix, rows, panel + p, initial + p * kPanelFloats,
                                            weights + p * kPanelFloats, stride);
    }
    if constexpr (kWhole < kPanels) {
        Tile<Kernel, Weights, kRows, kPanels - kWhole>(matrix, rows, panel + kWhole, initial + kWhole * kPanelFloats,
                                                       weights + kWhole * kPanelFloats, stride);
    }
}

template <class Kernel, class Weights, int kPanels, int kRows>
FUSEDCELL_INLINE void LastRows(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                               ptrdiff_t panel, const float* initial, const typename Weights::Element* weights,
                               ptrdiff_t stride) {
    if constexpr (kRows == 1) {
        if (num_rows == 1) Tile<Kernel, Weights, 1, kPanels>(matrix, rows, panel, initial, weights, stride);
    } else {
        if (num_rows == kRows) {
            BlockTiles<Kernel, Weights, kRows, kPanels>(matrix, rows, panel, initial, weights, stride);
        } else {
            LastRows<Kernel, Weights, kPanels, kRows - 1>(matrix, rows, num_rows, panel, initial, weights, stride);
        }
    }
}

// All rows of one block; the block's weights stay in cache from one row tile to the next.
template <class Kernel, class Weights, int kPanels>
FUSEDCELL_INLINE void Block(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                            ptrdiff_t panel, const unsigned char* block) {
    constexpr ptrdiff_t kStride = ptrdiff_t{kPanels} * Kernel::kGates * kLanes;
    constexpr ptrdiff_t kInitialFloats = Kernel::kHasInitialAccumulators ? kStride : 0;
    const auto* initial = reinterpret_cast<const float*>(block);
    const auto* weights = reinterpret_cast<const typename Weights::Element*>(initial + kInitialFloats);
    ptrdiff_t r = 0;
    for (; r + kTileRows <= num_rows; r += kTileRows) {
        BlockTiles<Kernel, Weights, kTileRows, kPanels>(matrix, rows + r, panel, initial, weights, kStride);
    }
    LastRows<Kernel, Weights, kPanels, kTileRows - 1>(matrix, rows + r, num_rows - r, panel, initial, weights, kStride);
}

// The block that starts at `panel`, with the `panels` that are left from there, or kPanels of them.
template <class Kernel, class Weights, int kPanels>
FUSEDCELL_INLINE void AnyBlock(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
                               ptrdiff_t panel, const unsigned char* block, ptrdiff_t panels) {
    if (panels >= kPanels) {
        Block<Kernel, Weights, kPanels>(matrix, rows, num_rows, panel, block);
    } else if constexpr (kPanels > 1) {
        AnyBlock<Kernel, Weights, kPanels - 1>(matrix, rows, num_rows, panel, block, panels);
    }
}

template <class Kernel, class Weights>
void Run(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows, bool backward) {
    constexpr int kPanels = kPanelsPerBlock<Kernel>;
    constexpr ptrdiff_t kVectorFloats = ptrdiff_t{kPanels} * Kernel::kGates * kLanes;
    constexpr ptrdiff_t kInitialBytes = Kernel::kHasInitialAccumulators ? kVectorFloats * sizeof(float) : 0;
    const ptrdiff_t block_bytes = kInitialBytes + matrix.depth * kVectorFloats * sizeof(typename Weights::Element);
    const auto* data = static_cast<const unsigned char*>(matrix.data);
    const ptrdiff_t blocks = (matrix.panels + kPanels - 1) / kPanels;
    ptrdiff_t i = backward ? blocks - 1 : 0;
    const ptrdiff_t next = backward ? -1 : 1;
    for (ptrdiff_t left = blocks; left > 0; --left, i += next) {
        AnyBlock<Kernel, Weights, kPanels>(matrix, rows, num_rows, i * kPanels, data + i * block_bytes,
                                           matrix.panels - i * kPanels);
    }
}

FUSEDCELL_INLINE F32 LoadUnits(const float* p, ptrdiff_t units) {
    return units == kLanes ? Load(p) : LoadFirst(p, units);
}

FUSEDCELL_INLINE void StoreUnits(float* p, F32 a, ptrdiff_t units) {
    if (units == kLanes) {
        Store(p, a);
    } else {
        StoreFirst(p, a, units);
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
