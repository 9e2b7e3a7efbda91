// The loop over k where multiply-adds take weights and inputs from registers: loads run ahead of their use, which a
// core that issues in order would wait for.
//
// Beside what every dot has (generic/dot.h), a dot for this loop is a class with
//
//     kInputs             groups whose inputs LoadInputs loads at once; Add<place> takes those of one of them
//     kTogether           groups that one Add takes
//     kTemporaries        registers that Add needs for itself
//     Chunk<n>            the weights of up to n vectors, of kTogether groups
//     LoadChunk<n>        begins to load a chunk of n vectors; the second group, if there is one, lies `stride`
//     elements
//                         after the first
//     LoadRest<n>         loads what a core could not load at once
//     Complete            puts a chunk together, once all of it is there
//     WeightsOf           one vector's weights of a complete chunk
#pragma once

#ifndef FUSEDCELL_ISA    // opened by itself
#include "kernels/simd/dot_i8_neon.h"
#endif

#include "kernels/generic/dot.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

constexpr int kVectorRegisters = 32;

template <class T>
constexpr int kRegistersOf = AtLeastOne(static_cast<int>(sizeof(T) / sizeof(F32)));

/// As PlainSum. Weights are loaded in chunks of up to kMostOfChunk registers, of which up to kMostInRing are under way;
/// both only as far as accumulators and inputs leave registers.
template <class AnyDot, int kSets, int kVectors>
struct PipelinedLoop {
    using Element = typename AnyDot::Element;
    using Inputs = typename AnyDot::Inputs;
    using Accumulators = typename AnyDot::Accumulator[kSets][kVectors];

    static constexpr int kOfVector = kRegistersOf<typename AnyDot::Weights>;
    static constexpr int kOfSet =
        kVectors * kRegistersOf<typename AnyDot::Accumulator> + kRegistersOf<typename AnyDot::Inputs>;
    static constexpr int kFree = kVectorRegisters - kSets * kOfSet - AnyDot::kTemporaries;
    static constexpr int kFitting = kFree >= 8 ? 4 : kFree >= 4 ? 2 : 1;
    static constexpr int kChunk =
        AtLeastOne((kFitting < kMostOfChunk ? kFitting : kMostOfChunk) / kOfVector);    // vectors
    static constexpr int kChunks = DivideUp(kVectors, kChunk);                          // of a group
    static constexpr int kOfLast = kVectors - (kChunks - 1) * kChunk;                   // vectors
    static constexpr int kFit = AtLeastOne(kFree / (kChunk * kOfVector));               // chunks
    static constexpr int kRing = kFit < kMostInRing ? kFit : kMostInRing;
    static constexpr int kAhead = kRing / 3;    // chunks from where one is put together to where it is used
    using Chunk = typename AnyDot::template Chunk<kChunk>;
    using Ring = Chunk[kRing];

    static FUSEDCELL_INLINE const Element* AddressOf(int chunk, const Element* weights, ptrdiff_t stride) {
        return weights + chunk / kChunks * AnyDot::kTogether * stride +
               ptrdiff_t{chunk % kChunks} * kChunk * kLanes * AnyDot::kGroup;
    }

    /// Chunk number `chunk`, counted through all groups whose inputs are there.
    static FUSEDCELL_INLINE void Load(Ring& ring, int chunk, const Element* weights, ptrdiff_t stride) {
        const Element* p = AddressOf(chunk, weights, stride);
        if (chunk % kChunks < kChunks - 1) {
            AnyDot::template LoadChunk<kChunk>(ring[chunk % kRing], p, stride);
        } else {
            AnyDot::template LoadChunk<kOfLast>(ring[chunk % kRing], p, stride);
        }
    }
    /// Only chunks of one vector are loaded in parts.
    static FUSEDCELL_INLINE void LoadRest(Ring& ring, int chunk, const Element* weights, ptrdiff_t stride) {
        AnyDot::template LoadRest<1>(ring[chunk % kRing], AddressOf(chunk, weights, stride), stride);
    }

    /// What is at kPlace in the inputs, of kPlaces, and what comes after it.
    template <int kPlace, int kPlaces>
    static FUSEDCELL_INLINE void AddFrom(Accumulators& acc, Ring& ring, const Element* weights, ptrdiff_t stride,
                                         const Inputs (&in)[kSets]) {
        constexpr int kEnd = kPlaces * kChunks;
        FUSEDCELL_UNROLL
        for (int c = 0; c < kChunks; ++c) {
            const int chunk = kPlace * kChunks + c;
            const int later = chunk + kRing - 1;
            if (later < kEnd) Load(ring, later, weights, stride);
            if (kAhead == 0 && later < kEnd) LoadRest(ring, later, weights, stride);
            if (chunk + kAhead < kEnd) AnyDot::Complete(ring[(chunk + kAhead) % kRing]);
            FUSEDCELL_UNROLL
            for (int i = 0; i < kChunk; ++i) {
                const int v = c * kChunk + i;
                if (v >= kVectors) continue;
                const auto w = AnyDot::WeightsOf(ring[chunk % kRing], i);
                FUSEDCELL_UNROLL
                for (int s = 0; s < kSets; ++s) acc[s][v] = AnyDot::template Add<kPlace>(acc[s][v], w, in[s]);
            }
            if (kAhead > 0 && later < kEnd) LoadRest(ring, later, weights, stride);
        }
        if constexpr (kPlace + 1 < kPlaces) AddFrom<kPlace + 1, kPlaces>(acc, ring, weights, stride, in);
    }

    template <int kPlaces>
    static FUSEDCELL_INLINE void AddAll(Accumulators& acc, const Element* weights, ptrdiff_t stride,
                                        const Inputs (&in)[kSets]) {
        Ring ring;
        FUSEDCELL_UNROLL
        for (int chunk = 0; chunk < kRing - 1 && chunk < kPlaces * kChunks; ++chunk) {
            Load(ring, chunk, weights, stride);
            LoadRest(ring, chunk, weights, stride);
        }
        FUSEDCELL_UNROLL
        for (int chunk = 0; chunk < kAhead && chunk < kPlaces * kChunks; ++chunk) AnyDot::Complete(ring[chunk]);
        AddFrom<0, kPlaces>(acc, ring, weights, stride, in);
    }

    template <class X>
    static FUSEDCELL_INLINE void Run(Accumulators& acc, const Element* weights, ptrdiff_t stride,
                                     const X* const (&x)[kSets * AnyDot::kRows], ptrdiff_t depth) {
        constexpr ptrdiff_t kGroups = AnyDot::kInputs * AnyDot::kTogether;
        Inputs in[kSets];
        ptrdiff_t k = 0;
        if constexpr (kGroups > 1) {
            for (; k + (kGroups - 1) * AnyDot::kGroup < depth; k += kGroups * AnyDot::kGroup) {
                FUSEDCELL_UNROLL
                for (int s = 0; s < kSets; ++s) in[s] = AnyDot::LoadInputs(x + s * AnyDot::kRows, k);
                AddAll<AnyDot::kInputs>(acc, weights, stride, in);
                weights += kGroups * stride;
            }
        }
        for (; k < depth; k += AnyDot::kGroup) {
            FUSEDCELL_UNROLL
            for (int s = 0; s < kSets; ++s) in[s] = AnyDot::BroadcastInput(x + s * AnyDot::kRows, k);
            AddAll<1>(acc, weights, AnyDot::kTogether > 1 ? 0 : stride, in);
            weights += stride;
        }
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
