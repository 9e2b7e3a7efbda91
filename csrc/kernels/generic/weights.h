// How weights of each type lie in a block and become sums.
//
//     block of float weights   [initial accumulators][weights: for each k, for each vector, lanes]
//     block of int8 weights    [initial accumulators][unit scales][dot products' start][weights: for each group, ...]
//
// Initial accumulators are one float a lane and panel, for the chain of the panel's last gate; the others start at
// zero. Unit scales are one float a lane and vector. The dot products' start is one int32 a lane and vector, on tiers
// whose dot product is compensated. A group is four or eight k, whose weights of one lane are neighbours.
#pragma once

#include "kernels/generic/dot.h"

#ifdef FUSEDCELL_PIPELINED
#include "kernels/generic/dot_pipelined.h"
#endif

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// Part of a block, from some panel on.
template <class Weights>
struct BlockView {
    const float* initial;
    const float* scales;
    const int32_t* start;
    const typename Weights::Element* weights;
    ptrdiff_t stride;    // elements from one k, or group, to the next

    /// The same from `panels` panels later.
    template <class Kernel>
    FUSEDCELL_INLINE BlockView After(ptrdiff_t panels) const {
        const ptrdiff_t lanes = panels * Kernel::kGates * kLanes;
        return {Kernel::kHasInitialAccumulators ? initial + panels * kLanes : initial,
                Weights::kQuantised ? scales + lanes : scales, Weights::kCompensated ? start + lanes : start,
                weights + lanes * Weights::kGroup, stride};
    }
};

/// The parts of a block of `panels` panels.
template <class Kernel, class Weights>
FUSEDCELL_INLINE BlockView<Weights> ViewOfBlock(const unsigned char* block, ptrdiff_t panels) {
    const ptrdiff_t lanes = panels * Kernel::kGates * kLanes;
    BlockView<Weights> view{};
    view.initial = reinterpret_cast<const float*>(block);
    if (Kernel::kHasInitialAccumulators) block += panels * kLanes * sizeof(float);
    view.scales = reinterpret_cast<const float*>(block);
    if (Weights::kQuantised) block += lanes * sizeof(float);
    view.start = reinterpret_cast<const int32_t*>(block);
    if (Weights::kCompensated) block += lanes * sizeof(int32_t);
    view.weights = reinterpret_cast<const typename Weights::Element*>(block);
    view.stride = lanes * Weights::kGroup;
    return view;
}

template <class Kernel, class Weights>
FUSEDCELL_INLINE ptrdiff_t BytesOfBlock(ptrdiff_t panels, ptrdiff_t depth) {
    const ptrdiff_t lanes = panels * Kernel::kGates * kLanes;
    const ptrdiff_t groups = (depth + Weights::kGroup - 1) / Weights::kGroup;
    constexpr ptrdiff_t kFloat = sizeof(float);
    constexpr ptrdiff_t kElement = sizeof(typename Weights::Element);
    const ptrdiff_t header = (Kernel::kHasInitialAccumulators ? panels * kLanes * kFloat : 0) +
                             (Weights::kQuantised ? lanes * kFloat : 0) + (Weights::kCompensated ? lanes * kFloat : 0);
    const ptrdiff_t bytes = header + groups * lanes * Weights::kGroup * kElement;
    return (bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment;
}

/// The block's stride. Where a tile of one row is a whole block the compiler may know it, which saves AArch64 the
/// addresses of four k at a time; where a loop takes one k at a time, it only costs a longer instruction.
template <bool kIsBlock, int kVectors, class Weights>
FUSEDCELL_INLINE ptrdiff_t StrideOf(const BlockView<Weights>& block) {
    return kInputs > 1 && kIsBlock ? ptrdiff_t{kVectors} * kLanes * Weights::kGroup : block.stride;
}

/// Where vector `v` of a tile starts from.
template <class Kernel>
FUSEDCELL_INLINE F32 InitialOf(const float* initial, int v) {
    if (!Kernel::kHasInitialAccumulators || v % Kernel::kGates != Kernel::kGates - 1) return Zero();
    return Load(initial + v / Kernel::kGates * kLanes);
}

/// One vector's weights of kTogether groups, `stride` elements apart.
template <class AnyDot>
FUSEDCELL_INLINE typename AnyDot::Weights LoadWeights(const typename AnyDot::Element* p,
                                                      [[maybe_unused]] ptrdiff_t stride) {
#ifdef FUSEDCELL_PIPELINED
    typename AnyDot::template Chunk<1> chunk;
    AnyDot::template LoadChunk<1>(chunk, p, stride);
    AnyDot::template LoadRest<1>(chunk, p, stride);
    AnyDot::Complete(chunk);
    return AnyDot::WeightsOf(chunk, 0);
#else
    return AnyDot::WeightsAt(p);
#endif
}

/// The tier's loop over k.
template <class AnyDot, int kSets, int kVectors, class X>
FUSEDCELL_INLINE void Accumulate(typename AnyDot::Accumulator (&acc)[kSets][kVectors],
                                 const typename AnyDot::Element* weights, ptrdiff_t stride,
                                 const X* const (&x)[kSets * AnyDot::kRows], ptrdiff_t depth) {
#ifdef FUSEDCELL_PIPELINED
    PipelinedLoop<AnyDot, kSets, kVectors>::Run(acc, weights, stride, x, depth);
#else
    PlainSum<AnyDot>(acc, weights, stride, x, depth);
#endif
}

template <class Loads>
struct FloatWeights {
    using Element = typename Loads::Element;
    static constexpr bool kQuantised = false;
    static constexpr bool kCompensated = false;
    static constexpr int kGroup = 1;
    static constexpr int kRowChains = kChains;
    static constexpr int kMostRows = FloatDot<Loads>::kMostRows;

    /// sums[r][v] = initial + sum over k of weights[k][v] * inputs[r][k], one chain each.
    template <class Kernel, bool kIsBlock, int kRows, int kVectors>
    static FUSEDCELL_INLINE void Sum(F32 (&sums)[kRows][kVectors], const BlockView<FloatWeights>& block,
                                     const void* const (&inputs)[kRows], ptrdiff_t depth) {
        const float* x[kRows];
        FUSEDCELL_UNROLL
        for (int r = 0; r < kRows; ++r) x[r] = static_cast<const float*>(inputs[r]);
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            const F32 initial = InitialOf<Kernel>(block.initial, v);
            FUSEDCELL_UNROLL
            for (int r = 0; r < kRows; ++r) sums[r][v] = initial;
        }
        Accumulate<FloatDot<Loads>>(sums, block.weights, StrideOf<kIsBlock, kVectors>(block), x, depth);
    }
};

using Float32Weights = FloatWeights<Float32Loads>;
using Bfloat16Weights = FloatWeights<Bfloat16Loads>;
using Float16Weights = FloatWeights<Float16Loads>;

// Weights in [-127, 127] with a scale a row, on inputs that quantise.h has brought into the same range.
struct Int8Weights {
    using Element = int8_t;
    static constexpr bool kQuantised = true;
    static constexpr bool kCompensated = Dot::kCompensated;
    static constexpr int kGroup = Dot::kGroup;
    static constexpr int kRowChains = Dot::kChains;
    static constexpr int kMostRows = RowsDot::kMostRows;

    /// sums[r][v] = initial + (integer dot product) * (input scale * unit scale), rounded: the product of the scales,
    /// the integer's conversion, and one fused multiply-add.
    template <class Kernel, bool kIsBlock, int kRows, int kVectors>
    static FUSEDCELL_INLINE void Sum(F32 (&sums)[kRows][kVectors], const BlockView<Int8Weights>& block,
                                     const void* const (&inputs)[kRows], ptrdiff_t depth) {
        if constexpr (kRows == 1) {
            SumWith<Dot, Kernel, kIsBlock>(sums, block, inputs, depth);
        } else {
            SumWith<RowsDot, Kernel, kIsBlock>(sums, block, inputs, depth);
        }
    }

private:
    template <class AnyDot, class Kernel, bool kIsBlock, int kRows, int kVectors>
    static FUSEDCELL_INLINE void SumWith(F32 (&sums)[kRows][kVectors], const BlockView<Int8Weights>& block,
                                         const void* const (&inputs)[kRows], ptrdiff_t depth) {
        // AnyDot::kRows rows share an accumulator; where the last has rows to spare, they repeat the last row.
        constexpr int kSets = (kRows + AnyDot::kRows - 1) / AnyDot::kRows;
        typename AnyDot::Accumulator acc[kSets][kVectors];
        const int8_t* x[kSets * AnyDot::kRows];
        FUSEDCELL_UNROLL
        for (int r = 0; r < kSets * AnyDot::kRows; ++r) {
            x[r] = static_cast<const QuantisedInput*>(inputs[r < kRows ? r : kRows - 1])->values;
        }
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            FUSEDCELL_UNROLL
            for (int s = 0; s < kSets; ++s) acc[s][v] = AnyDot::Start(block.start + v * kLanes);
        }
        Accumulate<AnyDot>(acc, block.weights, StrideOf<kIsBlock, kVectors>(block), x, depth);
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            const F32 unit_scale = Load(block.scales + v * kLanes);
            const F32 initial = InitialOf<Kernel>(block.initial, v);
            FUSEDCELL_UNROLL
            for (int r = 0; r < kRows; ++r) {
                const F32 scale = Mul(Broadcast(static_cast<const QuantisedInput*>(inputs[r])->scale), unit_scale);
                sums[r][v] = MulAdd(AnyDot::ToFloat(acc[r / AnyDot::kRows][v], r % AnyDot::kRows), scale, initial);
            }
        }
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
