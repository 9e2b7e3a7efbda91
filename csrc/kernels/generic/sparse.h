// y = b + W x where most blocks of W are zero, 16 outputs x a group of k: only the others are stored, and each strip of
// 16 outputs has an ascending list of its groups. A chain has the k of its strip's list alone (SparseStrip in
// kernel_api.h says how it lies in memory).
#pragma once

#include "kernels/generic/tile.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

struct Sparse {
    using Row = LinearRow;
    static constexpr bool kHasInitialAccumulators = true;
};

template <class Weights>
struct SparseRun {
    using AnyDot = typename Weights::SparseDot;
    using Element = typename AnyDot::Element;
    using Accumulator = typename AnyDot::Accumulator;
    // Vectors of a strip that one pass over its list takes.
    static constexpr int kVectors = kStripUnits / kLanes < 4 ? kStripUnits / kLanes : 4;
    static constexpr int kStrips = AtLeastOne(Weights::kRowChains * kLanes / kStripUnits);
    static constexpr int kRows = AtLeastOne(Weights::kRowChains / kVectors);
    static constexpr ptrdiff_t kEntry = kStripUnits * AnyDot::kGroup;    // elements

    struct View {
        const SparseStrip* strips;
        const float* initial;
        const float* scales;
        const int32_t* start;
        const Element* weights;
        const uint16_t* groups;
        ptrdiff_t common;    // entries that all strips have
        ptrdiff_t rest;      // those that some have beside these, of all strips
    };

    static FUSEDCELL_INLINE View ViewOf(const unsigned char* block) {
        constexpr ptrdiff_t kLanesOfBlock = ptrdiff_t{kStrips} * kStripUnits;
        View view{};
        view.strips = reinterpret_cast<const SparseStrip*>(block);
        view.initial = reinterpret_cast<const float*>(view.strips + kStrips);
        view.scales = view.initial + kLanesOfBlock;
        view.start = reinterpret_cast<const int32_t*>(view.scales + (Weights::kQuantised ? kLanesOfBlock : 0));
        view.weights = reinterpret_cast<const Element*>(view.start + (Weights::kCompensated ? kLanesOfBlock : 0));
        view.common = view.strips[kStrips - 1].count;
        ptrdiff_t entries = 0;
        for (int s = 0; s < kStrips; ++s) entries += view.strips[s].count;
        view.rest = entries - kStrips * view.common;
        view.groups = reinterpret_cast<const uint16_t*>(view.weights + entries * kEntry);
        return view;
    }

    static FUSEDCELL_INLINE const typename Weights::Input* InputOf(const LinearRow& row) {
        return Weights::ValuesOf(row.input);
    }

    /// Sums of kAcross strips, whose entries are `across` strips apart, and kDown rows.
    template <int kDown, int kAcross>
    static FUSEDCELL_INLINE void Add(Accumulator (&acc)[kDown][kAcross][kVectors], const Element* weights,
                                     const uint16_t* groups, ptrdiff_t across, ptrdiff_t count,
                                     const typename Weights::Input* const (&x)[kDown]) {
        for (ptrdiff_t i = 0; i < count; ++i) {
            FUSEDCELL_UNROLL
            for (int s = 0; s < kAcross; ++s) {
                const ptrdiff_t k = ptrdiff_t{groups[s]} * AnyDot::kGroup;
                FUSEDCELL_UNROLL
                for (int r = 0; r < kDown; ++r) {
                    const auto in = AnyDot::BroadcastInput(x + r, k);
                    FUSEDCELL_UNROLL
                    for (int v = 0; v < kVectors; ++v) {
                        const auto w = LoadWeights<AnyDot>(weights + s * kEntry + v * kLanes * AnyDot::kGroup, 0);
                        acc[r][s][v] = AnyDot::template Add<0>(acc[r][s][v], w, in);
                    }
                }
            }
            weights += across * kEntry;
            groups += across;
        }
    }

    static FUSEDCELL_INLINE void Start(Accumulator (&acc)[kVectors], const View& block, ptrdiff_t lane) {
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            if constexpr (Weights::kQuantised) {
                acc[v] = AnyDot::Start(block.start + lane + v * kLanes);
            } else {
                acc[v] = Load(block.initial + lane + v * kLanes);
            }
        }
    }

    /// To memory, whose index need not be known to the compiler.
    static FUSEDCELL_INLINE void Copy(Accumulator (&to)[kVectors], const Accumulator (&from)[kVectors]) {
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) to[v] = from[v];
    }

    /// Stores the results of kVectors vectors of strip `s` from `first` on.
    static FUSEDCELL_INLINE void Finish(const Accumulator (&acc)[kVectors], const View& block, ptrdiff_t s,
                                        ptrdiff_t first, const LinearRow& row) {
        const SparseStrip& strip = block.strips[s];
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            const ptrdiff_t lane = s * kStripUnits + (first + v) * kLanes;
            const ptrdiff_t units = strip.units - (first + v) * kLanes;
            if (units <= 0) return;
            F32 sum = ToFloat(AnyDot::Sums(acc[v], 0));
            if constexpr (Weights::kQuantised) sum = Weights::Scaled(sum, row.input, block, lane);
            StoreUnits(row.y + strip.place + (first + v) * strip.stride, sum, units < kLanes ? units : kLanes);
        }
    }

    /// Of each strip and row, of which there are `down`, what is left of the lists when the shortest has ended, and the
    /// results of `num_rows` rows.
    static FUSEDCELL_OPAQUE void FinishRows(Accumulator (*sums)[kVectors], ptrdiff_t down, const View& block,
                                            const LinearRow* rows, ptrdiff_t num_rows, ptrdiff_t first) {
        const Element* weights = block.weights + first * kLanes * AnyDot::kGroup + kStrips * block.common * kEntry;
        const uint16_t* groups = block.groups + kStrips * block.common;
        FUSEDCELL_NO_UNROLL
        for (ptrdiff_t r = 0; r < num_rows; ++r) {
            const typename Weights::Input* const x[1] = {InputOf(rows[r])};
            for (ptrdiff_t i = 0; i < block.rest; ++i) {
                Accumulator(&acc)[kVectors] = sums[groups[2 * i + 1] * down + r];
                const auto in = AnyDot::BroadcastInput(x, ptrdiff_t{groups[2 * i]} * AnyDot::kGroup);
                FUSEDCELL_UNROLL
                for (int v = 0; v < kVectors; ++v) {
                    const auto w = LoadWeights<AnyDot>(weights + i * kEntry + v * kLanes * AnyDot::kGroup, 0);
                    acc[v] = AnyDot::template Add<0>(acc[v], w, in);
                }
            }
            FUSEDCELL_NO_UNROLL
            for (ptrdiff_t s = 0; s < kStrips; ++s) Finish(sums[s * down + r], block, s, first, rows[r]);
        }
    }

    /// One row, all strips together.
    static FUSEDCELL_INLINE void OneRow(const View& block, const LinearRow& row, ptrdiff_t first) {
        Accumulator acc[1][kStrips][kVectors];
        FUSEDCELL_UNROLL
        for (int s = 0; s < kStrips; ++s) Start(acc[0][s], block, s * kStripUnits + first * kLanes);
        const typename Weights::Input* const x[1] = {InputOf(row)};
        Add<1, kStrips>(acc, block.weights + first * kLanes * AnyDot::kGroup, block.groups, kStrips, block.common, x);
        Accumulator sums[kStrips][kVectors];
        FUSEDCELL_UNROLL
        for (int s = 0; s < kStrips; ++s) Copy(sums[s], acc[0][s]);
        FinishRows(sums, 1, block, &row, 1, first);
    }

    /// Up to kRows rows, strip by strip.
    static FUSEDCELL_INLINE void Rows(const View& block, const LinearRow* rows, ptrdiff_t num_rows, ptrdiff_t first) {
        const typename Weights::Input* x[kRows];
        FUSEDCELL_UNROLL
        for (int r = 0; r < kRows; ++r) x[r] = InputOf(rows[r < num_rows ? r : num_rows - 1]);
        Accumulator sums[kStrips * kRows][kVectors];
        FUSEDCELL_NO_UNROLL
        for (ptrdiff_t s = 0; s < kStrips; ++s) {
            Accumulator acc[kRows][1][kVectors];
            FUSEDCELL_UNROLL
            for (int r = 0; r < kRows; ++r) Start(acc[r][0], block, s * kStripUnits + first * kLanes);
            Add<kRows, 1>(acc, block.weights + first * kLanes * AnyDot::kGroup + s * kEntry, block.groups + s, kStrips,
                          block.common, x);
            FUSEDCELL_UNROLL
            for (int r = 0; r < kRows; ++r) Copy(sums[s * kRows + r], acc[r][0]);
        }
        FinishRows(sums, kRows, block, rows, num_rows, first);
    }

    static void Run(const PackedMatrix& matrix, const LinearRow* rows, ptrdiff_t num_rows, const BlockRange& blocks) {
        const auto* data = static_cast<const unsigned char*>(matrix.data);
        const auto* offsets = static_cast<const int64_t*>(matrix.data);
        ptrdiff_t i = blocks.backward ? blocks.last - 1 : blocks.first;
        const ptrdiff_t next = blocks.backward ? -1 : 1;
        for (ptrdiff_t left = blocks.last - blocks.first; left > 0; --left, i += next) {
            const View block = ViewOf(data + offsets[i]);
            FUSEDCELL_NO_UNROLL
            for (ptrdiff_t first = 0; first < kStripUnits / kLanes; first += kVectors) {
                ptrdiff_t r = 0;
                if constexpr (kRows > 1) {
                    for (; r + 1 < num_rows; r += kRows) {
                        Rows(block, rows + r, num_rows - r < kRows ? num_rows - r : kRows, first);
                    }
                }
                for (; r < num_rows; ++r) OneRow(block, rows[r], first);
            }
        }
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
