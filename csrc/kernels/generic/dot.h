// The loop over k of every type of weights, over a dot: what one step multiplies and adds. A dot is a class with
//
//     Element, Weights    of the weights in memory; one vector's, of one step
//     Inputs              of kRows rows, of kInputs steps
//     Accumulator         of kRows rows and one vector; Start and ToFloat are its ends
//     kGroup              consecutive k whose weights of one lane are neighbours
//     kTogether           groups that a step takes
//     kTemporaries        registers that Add needs for itself
//     Chunk<n>            the weights of up to n vectors that LoadChunk loads, of the group at an address and, if
//                         kTogether is 2, of the one `stride` elements later; WeightsOf takes one vector's. What a
//                         core cannot load at once, LoadRest loads and Complete puts together
//     LoadInputs          of kInputs steps; Add<step> takes one's
//     BroadcastInput      of one group, for Add<0>; a second group's inputs are zeros
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

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
    template <int kStep>
    static FUSEDCELL_INLINE Accumulator Add(Accumulator acc, Weights w, Inputs in) {
        return MulAddInput<kStep>(w, in, acc);
    }
    static FUSEDCELL_INLINE F32 ToFloat(Accumulator acc, int) { return acc; }
};

template <class T>
constexpr int kRegistersOf = AtLeastOne(static_cast<int>(sizeof(T) / sizeof(F32)));

// In k: far enough for the third-level cache, near enough for the lines to be still there. The last ones of a matrix
// are beyond its end, which a prefetch may be.
constexpr ptrdiff_t kPrefetchDistance = 8;

/// acc[s][v] += weights of vector v * inputs of set s, kSets * AnyDot::kRows rows, in the order of k.
///
/// Where multiply-adds want their weights in registers, these are loaded in chunks of up to kMostOfChunk registers,
/// some chunks before their use, which a core that executes in order would wait for: up to kMostInRing are under way.
/// Both only as far as accumulators and inputs leave registers.
template <class AnyDot, int kSets, int kVectors>
struct SumLoop {
    using Element = typename AnyDot::Element;
    using Inputs = typename AnyDot::Inputs;
    using Accumulators = typename AnyDot::Accumulator[kSets][kVectors];

    static constexpr int kOfVector = kRegistersOf<typename AnyDot::Weights>;
    static constexpr int kOfSet =
        kVectors * kRegistersOf<typename AnyDot::Accumulator> + kRegistersOf<typename AnyDot::Inputs>;
    static constexpr int kFree = kLoadRegisters - kSets * kOfSet - AnyDot::kTemporaries;
    static constexpr int kFitting = kFree >= 8 ? 4 : kFree >= 4 ? 2 : 1;
    static constexpr int kChunk =
        AtLeastOne((kFitting < kMostOfChunk ? kFitting : kMostOfChunk) / kOfVector);    // vectors
    static constexpr int kChunks = DivideUp(kVectors, kChunk);                          // of a step
    static constexpr int kFit = AtLeastOne(kFree / (kChunk * kOfVector));               // chunks
    static constexpr int kRing = kFit < kMostInRing ? kFit : kMostInRing;
    static constexpr int kAhead = kRing / 3;    // chunks from where one is put together to where it is used
    using Chunk = typename AnyDot::template Chunk<kChunk>;
    using Ring = Chunk[kRing];

    static constexpr bool kPrefetch = kSets >= kPrefetchRows && sizeof(Element) == sizeof(float);

    static constexpr int kOfLast = kVectors - (kChunks - 1) * kChunk;

    static FUSEDCELL_INLINE const Element* AddressOf(int chunk, const Element* weights, ptrdiff_t stride) {
        return weights + chunk / kChunks * AnyDot::kTogether * stride +
               ptrdiff_t{chunk % kChunks} * kChunk * kLanes * AnyDot::kGroup;
    }

    /// Chunk number `chunk` from the first of a step on; the steps after it continue the count.
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

    template <int kStep, int kSteps>
    static FUSEDCELL_INLINE void Step(Accumulators& acc, Ring& ring, const Element* weights, ptrdiff_t stride,
                                      const Inputs (&in)[kSets]) {
        FUSEDCELL_UNROLL
        for (int c = 0; c < kChunks; ++c) {
            const int chunk = kStep * kChunks + c;
            const int later = chunk + kRing - 1;
            if (later < kSteps * kChunks) Load(ring, later, weights, stride);
            if (kAhead == 0 && later < kSteps * kChunks) LoadRest(ring, later, weights, stride);
            if (chunk + kAhead < kSteps * kChunks) AnyDot::Complete(ring[(chunk + kAhead) % kRing]);
            FUSEDCELL_UNROLL
            for (int i = 0; i < kChunk; ++i) {
                const int v = c * kChunk + i;
                if (v >= kVectors) continue;
                if constexpr (kPrefetch) FUSEDCELL_PREFETCH(weights + v * kLanes + kPrefetchDistance * stride);
                const auto w = AnyDot::WeightsOf(ring[chunk % kRing], i);
                FUSEDCELL_UNROLL
                for (int s = 0; s < kSets; ++s) acc[s][v] = AnyDot::template Add<kStep>(acc[s][v], w, in[s]);
            }
            if (kAhead > 0 && later < kSteps * kChunks) LoadRest(ring, later, weights, stride);
        }
        if constexpr (kStep + 1 < kSteps) Step<kStep + 1, kSteps>(acc, ring, weights, stride, in);
    }

    template <int kSteps>
    static FUSEDCELL_INLINE void Steps(Accumulators& acc, const Element* weights, ptrdiff_t stride,
                                       const Inputs (&in)[kSets]) {
        Ring ring;
        FUSEDCELL_UNROLL
        for (int chunk = 0; chunk < kRing - 1 && chunk < kSteps * kChunks; ++chunk) {
            Load(ring, chunk, weights, stride);
            LoadRest(ring, chunk, weights, stride);
        }
        FUSEDCELL_UNROLL
        for (int chunk = 0; chunk < kAhead && chunk < kSteps * kChunks; ++chunk) AnyDot::Complete(ring[chunk]);
        Step<0, kSteps>(acc, ring, weights, stride, in);
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
                Steps<AnyDot::kInputs>(acc, weights, stride, in);
                weights += kGroups * stride;
            }
        }
        for (; k < depth; k += AnyDot::kGroup) {
            FUSEDCELL_UNROLL
            for (int s = 0; s < kSets; ++s) in[s] = AnyDot::BroadcastInput(x + s * AnyDot::kRows, k);
            Steps<1>(acc, weights, AnyDot::kTogether > 1 ? 0 : stride, in);
            weights += stride;
        }
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
