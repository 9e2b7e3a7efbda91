// Sums over k, for every type of weights, over a dot: what a vector of weights is multiplied by and added to. A dot is
// a class with
//
//     Element             of the weights in memory
//     Weights             one vector's, of one group
//     Inputs              of kRows rows
//     Accumulator         of kRows rows and one vector
//     kGroup              consecutive k whose weights of one lane are neighbours
//     kRows               rows that share an accumulator
//     kMostRows           rows of the tallest tile
//     kChains             accumulators that hide the latency of Add where there is one row (int8; of floats: vec_*.h)
//     kCompensated        whether sums start at -128 times the sum of their weights, which packing leaves in the block
//     Start               an accumulator; it is given where these sums are
//     BroadcastInput      the inputs of one group, for Add<0>; where an Add takes two groups, zeros for the second
//     Add                 accumulator + weights * inputs
//     Sums                one row's, in Accumulator's numbers; ToFloat makes floats of them
//
// An int8 tier has three of them: Dot where there is one row, RowsDot where there are several, and Int16Dot for inputs
// of 16 bits (weights.h). kWholeInt16 says whether this one makes whole sums of both halves, and kInt16Steps whether
// the registers have room for a step of such inputs in one pass.
//
// and for the plain loop, which suits multiply-adds that take weights from memory and inputs by a broadcast:
//
//     WeightsAt           one vector's weights, of one group
//
// dot_pipelined.h has the other loop, and what that asks of a dot.
#pragma once

#include "kernels/generic/tier.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

FUSEDCELL_INLINE F32 ToFloat(F32 a) { return a; }

constexpr int AtLeastOne(int n) { return n < 1 ? 1 : n; }
constexpr int DivideUp(int n, int divisor) { return (n + divisor - 1) / divisor; }

/// Float multiply-adds, with weights that Loads widens to float exactly.
template <class Loads>
struct FloatDot : Loads {
    using Weights = F32;
    using Inputs = F32;
    using Accumulator = F32;
    static constexpr int kGroup = 1;
    static constexpr int kTogether = 1;
    static constexpr int kRows = 1;
    static constexpr int kInputs = FUSEDCELL_ISA::kInputs;
    static constexpr int kMostRows = kTileRows;

    static FUSEDCELL_INLINE Accumulator Start(const int32_t*) { return Zero(); }
    static FUSEDCELL_INLINE Inputs LoadInputs(const float* const* x, ptrdiff_t k) {
        return FUSEDCELL_ISA::LoadInputs(x[0] + k);
    }
    static FUSEDCELL_INLINE Inputs BroadcastInput(const float* const* x, ptrdiff_t k) { return Broadcast(x[0][k]); }
    template <int kPlace>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, Weights w, Inputs in) {
        return MulAddInput<kPlace>(w, in, acc);
    }
    static FUSEDCELL_INLINE F32 Sums(Accumulator acc, int) { return acc; }
};

// In k: far enough for the third-level cache, near enough for the lines to be still there. The last ones of a matrix
// are beyond its end, which a prefetch may be.
constexpr ptrdiff_t kPrefetchDistance = 8;

/// acc[s][v] += weights of vector v * inputs of set s, kSets * AnyDot::kRows rows, in the order of k.
template <class AnyDot, int kSets, int kVectors, class X>
FUSEDCELL_INLINE void PlainSum(typename AnyDot::Accumulator (&acc)[kSets][kVectors],
                               const typename AnyDot::Element* weights, ptrdiff_t stride,
                               const X* const (&x)[kSets * AnyDot::kRows], ptrdiff_t depth) {
    constexpr bool kPrefetch = kSets >= kPrefetchRows && sizeof(*weights) == sizeof(float);
    for (ptrdiff_t k = 0; k < depth; k += AnyDot::kGroup) {
        const auto weights_of = [&](int v) {
            const auto* p = weights + ptrdiff_t{v} * kLanes * AnyDot::kGroup;
            if constexpr (kPrefetch) FUSEDCELL_PREFETCH(p + kPrefetchDistance * stride);
            return AnyDot::WeightsAt(p);
        };
        if constexpr (kSets > kTileRows) {
            // Registers have no room for the inputs of all rows beside their accumulators, but for the weights.
            typename AnyDot::Weights w[kVectors];
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) w[v] = weights_of(v);
            FUSEDCELL_UNROLL
            for (int s = 0; s < kSets; ++s) {
                const auto in = AnyDot::BroadcastInput(x + s * AnyDot::kRows, k);
                FUSEDCELL_UNROLL
                for (int v = 0; v < kVectors; ++v) acc[s][v] = AnyDot::template Add<0>(acc[s][v], w[v], in);
            }
        } else {
            typename AnyDot::Inputs in[kSets];
            FUSEDCELL_UNROLL
            for (int s = 0; s < kSets; ++s) in[s] = AnyDot::BroadcastInput(x + s * AnyDot::kRows, k);
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) {
                const auto w = weights_of(v);
                FUSEDCELL_UNROLL
                for (int s = 0; s < kSets; ++s) acc[s][v] = AnyDot::template Add<0>(acc[s][v], w, in[s]);
            }
        }
        weights += stride;
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
