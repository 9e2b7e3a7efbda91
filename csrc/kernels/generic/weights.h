// How weights of each type lie in a block and become sums. What a type wants of its tiles is there too: kMostRows,
// the rows whose accumulators the registers hold, kSmallCode, whether rows are taken one by one all the same, kSparse,
// whether matrices of the type can be sparse, kNonzero, whether zeros among their inputs can be left out, and kSteps,
// whether a step of one row can be one pass (step.h).
//
//     block of float weights   [initial accumulators][weights: for each k, for each vector, lanes]
//     block of int8 weights    [initial accumulators][unit scales][dot products' start][weights: for each group, ...]
//
// Initial accumulators are one float a lane and panel, for the chain of the panel's last gate; the others start at
// zero. Unit scales are one float a lane and vector. The dot products' start is one int32 a lane and vector, on tiers
// whose dot product is compensated. A group is four or eight k, whose weights of one lane are neighbours.
#pragma once

#include <string.h>

#include "kernels/generic/dot.h"

#ifdef FUSEDCELL_PIPELINED
#include "kernels/generic/dot_pipelined.h"
#endif
#ifdef FUSEDCELL_DOUBLES
#include "kernels/generic/dot_doubles.h"
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

/// The block's stride. Where a tile of one row is a whole block the compiler may know it, which saves AArch64 the
/// addresses of four k at a time; where a loop takes one k at a time, it only costs a longer instruction.
template <bool kIsBlock, int kVectors, class Weights>
FUSEDCELL_INLINE ptrdiff_t StrideOf(const BlockView<Weights>& block) {
    return kInputs > 1 && kIsBlock ? ptrdiff_t{kVectors} * kLanes * Weights::kGroup : block.stride;
}

template <class Kernel>
constexpr bool StartsAtZero(int v) {
    return !Kernel::kHasInitialAccumulators || v % Kernel::kGates != Kernel::kGates - 1;
}

/// Where vector `v` of a tile starts from.
template <class Kernel>
FUSEDCELL_INLINE F32 InitialOf(const float* initial, int v) {
    if (StartsAtZero<Kernel>(v)) return Zero();
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
#elif defined(FUSEDCELL_DOUBLES)
    SumApart<AnyDot>(acc, weights, stride, x, depth);
#else
    PlainSum<AnyDot>(acc, weights, stride, x, depth);
#endif
}

template <class Loads>
struct FloatWeights {
    using Element = typename Loads::Element;
    using SparseDot = FloatDot<Loads>;
    using Input = float;
    static constexpr bool kSparse = sizeof(Element) == sizeof(float);    // halves would be as much code again
#ifdef FUSEDCELL_DOUBLES
    // Halves often need a multiply-add's exact way, which the loop over all k finds out in bulk.
    static constexpr bool kNonzero = kSparse;
#else
    static constexpr bool kNonzero = true;
#endif
    static constexpr bool kSmallCode = false;
    static constexpr bool kSteps = true;
    static constexpr bool kQuantised = false;
    static constexpr bool kCompensated = false;
    static constexpr int kInputPlanes = 1;
    static constexpr int kGroup = 1;
    static constexpr int kRowChains = kChains;
    static constexpr int kMostRows = FloatDot<Loads>::kMostRows;

    static FUSEDCELL_INLINE const float* ValuesOf(const void* input) { return static_cast<const float*>(input); }

    /// sums[r][v] = initial + sum over k of weights[k][v] * inputs[r][k], one chain each.
    template <class Kernel, bool kIsBlock, int kRows, int kVectors>
    static FUSEDCELL_INLINE void Sum(F32 (&sums)[kRows][kVectors], const BlockView<FloatWeights>& block,
                                     const void* const (&inputs)[kRows], ptrdiff_t depth) {
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            const F32 initial = InitialOf<Kernel>(block.initial, v);
            FUSEDCELL_UNROLL
            for (int r = 0; r < kRows; ++r) sums[r][v] = initial;
        }
        Continue<kIsBlock>(sums, block, inputs, depth);
    }

    /// The same chains, from where they are.
    template <bool kIsBlock, int kRows, int kVectors>
    static FUSEDCELL_INLINE void Continue(F32 (&sums)[kRows][kVectors], const BlockView<FloatWeights>& block,
                                          const void* const (&inputs)[kRows], ptrdiff_t depth) {
        const float* x[kRows];
        FUSEDCELL_UNROLL
        for (int r = 0; r < kRows; ++r) x[r] = static_cast<const float*>(inputs[r]);
        Accumulate<FloatDot<Loads>>(sums, block.weights, StrideOf<kIsBlock, kVectors>(block), x, depth);
    }
};

using Float32Weights = FloatWeights<Float32Loads>;
using Bfloat16Weights = FloatWeights<Bfloat16Loads>;
using Float16Weights = FloatWeights<Float16Loads>;

// Weights in [-127, 127] with a scale a row.
struct QuantisedWeights {
    using Element = int8_t;
    static constexpr bool kNonzero = false;    // whole groups would have to be zero, and compensated sums have all
    static constexpr bool kQuantised = true;
    static constexpr bool kCompensated = Dot::kCompensated;
    static constexpr int kGroup = Dot::kGroup;
    static constexpr int kRowChains = Dot::kChains;

    static FUSEDCELL_INLINE const QuantisedInput& InputAt(const void* input) {
        return *static_cast<const QuantisedInput*>(input);
    }

    /// Accumulators where AnyDot's sums start.
    template <class AnyDot, int kSets, int kVectors>
    static FUSEDCELL_INLINE void Start(typename AnyDot::Accumulator (&acc)[kSets][kVectors], const int32_t* start) {
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            FUSEDCELL_UNROLL
            for (int s = 0; s < kSets; ++s) acc[s][v] = AnyDot::Start(start + v * kLanes);
        }
    }

    /// sums[r][v] = initial + sum_of(r, v) * (input scale * unit scale): two roundings, after that of the integer.
    template <class Kernel, int kRows, int kVectors, class Weights, class SumOf>
    static FUSEDCELL_INLINE void Scale(F32 (&sums)[kRows][kVectors], const BlockView<Weights>& block,
                                       const void* const (&inputs)[kRows], const SumOf& sum_of) {
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            const F32 unit_scale = Load(block.scales + v * kLanes);
            const F32 initial = InitialOf<Kernel>(block.initial, v);
            FUSEDCELL_UNROLL
            for (int r = 0; r < kRows; ++r) {
                const F32 scale = Mul(Broadcast(InputAt(inputs[r]).scale), unit_scale);
                const F32 sum = sum_of(r, v);
                sums[r][v] = StartsAtZero<Kernel>(v) ? MulAddOnce(sum, scale, initial) : MulAdd(sum, scale, initial);
            }
        }
    }
};

// On inputs that quantise.h has brought into the same range.
struct Int8Weights : QuantisedWeights {
    using ManyRowsDot = RowsDot;
    using SparseDot = Dot;
    using Input = int8_t;
    static constexpr int kInputPlanes = 1;
    static constexpr bool kSparse = true;
    static constexpr bool kSmallCode = false;
    static constexpr bool kSteps = true;
    static constexpr int kMostRows = RowsDot::kMostRows;

    static FUSEDCELL_INLINE const int8_t* ValuesOf(const void* input) { return InputAt(input).values; }
    /// As Scale, of the vector that `lane` of a block begins.
    template <class Block>
    static FUSEDCELL_INLINE F32 Scaled(F32 sum, const void* input, const Block& block, ptrdiff_t lane) {
        const F32 scale = Mul(Broadcast(InputAt(input).scale), Load(block.scales + lane));
        return MulAdd(sum, scale, Load(block.initial + lane));
    }

    /// sums[r][v] = initial + float(integer dot product) * (input scale * unit scale).
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
        constexpr int kSets = DivideUp(kRows, AnyDot::kRows);
        typename AnyDot::Accumulator acc[kSets][kVectors];
        const int8_t* x[kSets * AnyDot::kRows];
        FUSEDCELL_UNROLL
        for (int r = 0; r < kSets * AnyDot::kRows; ++r) x[r] = InputAt(inputs[r < kRows ? r : kRows - 1]).values;
        Start<AnyDot>(acc, block.start);
        Accumulate<AnyDot>(acc, block.weights, StrideOf<kIsBlock, kVectors>(block), x, depth);
        Scale<Kernel>(sums, block, inputs, [&](int r, int v) {
            return ToFloat(AnyDot::Sums(acc[r / AnyDot::kRows][v], r % AnyDot::kRows));
        });
    }
};

/// totals += factor * sums, exactly; `count` vectors.
[[maybe_unused]] FUSEDCELL_OPAQUE void AddSums(const I32* sums, int count, double factor, double* totals) {
    int32_t lanes[kLanes];
    FUSEDCELL_NO_UNROLL
    for (int i = 0; i < count; ++i) {
        memcpy(lanes, sums + i, sizeof lanes);
        for (int lane = 0; lane < kLanes; ++lane) totals[i * kLanes + lane] += factor * lanes[lane];
    }
}
[[maybe_unused]] FUSEDCELL_OPAQUE void RoundTotals(const double* totals, int count, F32* sums) {
    float lanes[kLanes];
    FUSEDCELL_NO_UNROLL
    for (int i = 0; i < count; ++i) {
        for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = static_cast<float>(totals[i * kLanes + lane]);
        sums[i] = Load(lanes);
    }
}

// On inputs of 16 bits, which are two planes of the range of 8 bits, 128 high + low. To the loop over k they are two
// rows; where kWholeInt16, the tier's Int16Dot makes one sum of them, and elsewhere it has a sum of each.
//
// A double holds every sum, and the float that it is rounded to is the same wherever it was rounded once. One
// conversion does that of whole sums of up to kMostWhole inputs, and of up to kMostPlanes one multiply-add does of two
// planes', as both are floats: |low| is at most 64. Deeper matrices go through doubles in memory.
struct Int8Int16Weights : QuantisedWeights {
    using ManyRowsDot = Int16Dot;
    static constexpr int kInputPlanes = 2;
    static constexpr bool kSparse = false;
    // A row alone has two products for each weight that is loaded, so that others beside it would gain little.
    static constexpr bool kSmallCode = true;
    static constexpr bool kSteps = kInt16Steps;
    static constexpr int kMostRows =
        kWholeInt16 ? kInputPlanes * Int16Dot::kMostRows : Int16Dot::kMostRows;    // planes

    template <class Kernel, bool kIsBlock, int kRows, int kVectors>
    static FUSEDCELL_INLINE void Sum(F32 (&sums)[kRows][kVectors], const BlockView<Int8Int16Weights>& block,
                                     const void* const (&inputs)[kRows], ptrdiff_t depth) {
        constexpr int kSets = DivideUp(kRows * kInputPlanes, Int16Dot::kRows);
        constexpr int kSums = kRows * kVectors;
        typename Int16Dot::Accumulator acc[kSets][kVectors];
        const int8_t* x[kSets * Int16Dot::kRows];
        FUSEDCELL_UNROLL
        for (int r = 0; r < kRows; ++r) {
            x[2 * r] = InputAt(inputs[r]).values;
            x[2 * r + 1] = x[2 * r] + QuantisedInput::padded(depth);
        }
        const auto sums_of = [&](int r, int v, int plane) {
            const int i = r * kInputPlanes + plane;
            return Int16Dot::Sums(acc[i / Int16Dot::kRows][v], i % Int16Dot::kRows);
        };
        const auto add_plane = [&](int plane, double factor, double* totals) {
            I32 all[kSums];
            FUSEDCELL_UNROLL
            for (int i = 0; i < kSums; ++i) all[i] = sums_of(i / kVectors, i % kVectors, plane);
            AddSums(all, kSums, factor, totals);
        };
        const ptrdiff_t stride = StrideOf<kIsBlock, kVectors>(block);
        if constexpr (kWholeInt16) {
            double totals[kSums * kLanes];
            const bool is_deep = depth > kMostWhole;
            if (is_deep) memset(totals, 0, sizeof totals);
            const int8_t* weights = block.weights;
            ptrdiff_t left = depth;
            do {
                Start<Int16Dot>(acc, block.start);
                Accumulate<Int16Dot>(acc, weights, stride, x, left < kMostWhole ? left : kMostWhole);
                if (!is_deep) break;
                add_plane(0, 1.0, totals);
                weights += kMostWhole / kGroup * stride;
                FUSEDCELL_UNROLL
                for (const int8_t*& plane : x) plane += kMostWhole;
                left -= kMostWhole;
            } while (left > 0);
            FUSEDCELL_UNROLL
            for (int i = 0; i < kSums; ++i) {
                const int r = i / kVectors;
                sums[r][i % kVectors] = ToFloat(sums_of(r, i % kVectors, 0));
            }
            if (is_deep) RoundTotals(totals, kSums, sums[0]);
        } else {
            Start<Int16Dot>(acc, block.start);
            Accumulate<Int16Dot>(acc, block.weights, stride, x, depth);
            FUSEDCELL_UNROLL
            for (int i = 0; i < kSums; ++i) {
                const int r = i / kVectors;
                const int v = i % kVectors;
                sums[r][v] = MulAdd(ToFloat(sums_of(r, v, 0)), Broadcast(128.0F), ToFloat(sums_of(r, v, 1)));
            }
            if (depth > kMostPlanes) {
                double totals[kSums * kLanes] = {};
                add_plane(0, 128.0, totals);
                add_plane(1, 1.0, totals);
                RoundTotals(totals, kSums, sums[0]);
            }
        }
        Scale<Kernel>(sums, block, inputs, [&](int r, int v) { return sums[r][v]; });
    }

private:
    static constexpr ptrdiff_t kMostWhole = 1024;
    static constexpr ptrdiff_t kMostPlanes = (1 << 24) / (127 * 127);
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
