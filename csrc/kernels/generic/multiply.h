// Multiply-adds of a tile of several rows without its loads of inputs, on weights that stay in the nearest cache: what
// the register tiles of this tier could reach, for the bench to measure.
#pragma once

#include "kernels/generic/tile.h"
#include "kernels/kept.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// Few enough groups of weights for the nearest cache, and enough to hide the end of the loop over them.
constexpr ptrdiff_t kMultiplyGroups = 16;

// Enough to hide the latency of four units, and so few that no compiler has to keep some of them in memory.
constexpr int kMultiplyAccumulators = 20;

// Accumulators side by side for each vector of weights, as many as in a tile if they fit.
template <class AnyDot>
constexpr int MultiplySets() {
    constexpr int kVectors = kTileVectors * static_cast<int>(sizeof(typename AnyDot::Accumulator) / sizeof(F32));
    constexpr int kOfTile = AtLeastOne(AnyDot::kMostRows / AnyDot::kRows);
    return kOfTile * kVectors <= kMultiplyAccumulators ? kOfTile : kMultiplyAccumulators / kVectors;
}

template <class AnyDot>
constexpr ptrdiff_t kMultiplyAdds =
    kMultiplyGroups * MultiplySets<AnyDot>() * AnyDot::kRows * kTileVectors * kLanes * AnyDot::kGroup;

// Where sums are faster than the multiply-adds that they are made of.
#ifdef FUSEDCELL_DOUBLES
template <class AnyDot>
constexpr bool kWholeSums = sizeof(typename AnyDot::Element) == sizeof(float);
#else
template <class AnyDot>
constexpr bool kWholeSums = false;
#endif

// Each row has inputs and each vector has weights of its own, or a compiler could find two chains alike; all depend on
// an argument, or it could know them. Weights change their sign from group to group, so that sums stay small. To write
// them is as much as some hundred groups' work.
template <class AnyDot, class Element>
float Multiply(ptrdiff_t rounds) {
    constexpr int kSets = MultiplySets<AnyDot>();
    constexpr int kRows = kSets * AnyDot::kRows;
    constexpr ptrdiff_t kStride = kTileVectors * kLanes * AnyDot::kGroup;
    constexpr ptrdiff_t kDepth =
        kWholeSums<AnyDot> ? kMultiplyGroups : AnyDot::kInputs * AnyDot::kTogether * AnyDot::kGroup;
    alignas(64) Element weights[kMultiplyGroups * kStride];
    FUSEDCELL_NO_UNROLL
    for (ptrdiff_t i = 0; i < kStride; ++i) weights[i] = static_cast<Element>(1 + (i + rounds) % 100);
    FUSEDCELL_NO_UNROLL
    for (ptrdiff_t i = kStride; i < kMultiplyGroups * kStride; ++i) {
        weights[i] = static_cast<Element>(-weights[i - kStride]);
    }
    Element rows[kRows][kDepth];
    const Element* x[kRows];
    for (ptrdiff_t r = 0; r < kRows; ++r) {
        FUSEDCELL_NO_UNROLL
        for (ptrdiff_t k = 0; k < kDepth; ++k) {
            rows[r][k] = static_cast<Element>(1 + (7 * r + k + rounds) % 100);
        }
        x[r] = rows[r];
    }
    const int32_t start[kLanes] = {};
    typename AnyDot::Inputs in[kSets];
    typename AnyDot::Accumulator acc[kSets][kTileVectors];
    FUSEDCELL_UNROLL
    for (int s = 0; s < kSets; ++s) {
        if constexpr (AnyDot::kTogether > 1) {
            in[s] = AnyDot::LoadInputs(x + s * AnyDot::kRows, 0);
        } else {
            in[s] = AnyDot::BroadcastInput(x + s * AnyDot::kRows, 0);
        }
        FUSEDCELL_UNROLL
        for (int v = 0; v < kTileVectors; ++v) acc[s][v] = AnyDot::Start(start);
    }
    for (ptrdiff_t round = 0; round < rounds; ++round) {
        if constexpr (kWholeSums<AnyDot>) {
            Accumulate<AnyDot>(acc, weights, kStride, x, kDepth);
            continue;
        }
        FUSEDCELL_NO_UNROLL
        for (ptrdiff_t group = 0; group < kMultiplyGroups; group += AnyDot::kTogether) {
            FUSEDCELL_UNROLL
            for (int v = 0; v < kTileVectors; ++v) {
                const auto w = LoadWeights<AnyDot>(weights + group * kStride + v * kLanes * AnyDot::kGroup, kStride);
                FUSEDCELL_UNROLL
                for (int s = 0; s < kSets; ++s) acc[s][v] = AnyDot::template Add<0>(acc[s][v], w, in[s]);
            }
        }
    }
    float sums[kRows * kTileVectors * kLanes];
    FUSEDCELL_UNROLL
    for (int s = 0; s < kSets; ++s) {
        FUSEDCELL_UNROLL
        for (int v = 0; v < kTileVectors; ++v) {
            FUSEDCELL_UNROLL
            for (int r = 0; r < AnyDot::kRows; ++r) {
                const ptrdiff_t place = (s * kTileVectors + v) * AnyDot::kRows + r;
                Store(sums + place * kLanes, ToFloat(AnyDot::Sums(acc[s][v], r)));
            }
        }
    }
    float total = 0.0F;
    FUSEDCELL_NO_UNROLL
    for (const float sum : sums) total += sum;
    return total;
}

template <class Weights>
constexpr MultiplyKernel DescribeMultiply() {
    if constexpr (!kForPython) {
        return {};
    } else if constexpr (Weights::kQuantised) {
        using AnyDot = typename Weights::ManyRowsDot;
        return {&Multiply<AnyDot, int8_t>, kMultiplyAdds<AnyDot> / Weights::kInputPlanes};
    } else {
        return {&Multiply<FloatDot<Float32Loads>, float>, kMultiplyAdds<FloatDot<Float32Loads>>};
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
