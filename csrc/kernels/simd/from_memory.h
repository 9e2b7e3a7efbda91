// Weights one vector at a time and inputs one broadcast at a time, for tiers whose multiply-adds take them from memory.
// Included by the vector types after their own loads.
#pragma once

#define FUSEDCELL_TILE FUSEDCELL_NOINLINE

namespace fusedcell::FUSEDCELL_ISA {
namespace {

constexpr int kInputs = 1;
constexpr bool kGatesApart = false;
constexpr bool kPairsOfPanels = false;
constexpr int kLoadRegisters = 0;
constexpr int kMostOfChunk = 1;
constexpr int kMostInRing = 1;

FUSEDCELL_INLINE F32 LoadInputs(const float* x) { return Broadcast(*x); }
template <int>
FUSEDCELL_INLINE F32 MulAddInput(F32 w, F32 input, F32 acc) {
    return MulAdd(w, input, acc);
}

/// A chunk is where the weights are; a vector has kElements of them.
template <class AnyElement, int kElements>
struct ChunkInMemory {
    using Element = AnyElement;
    template <int>
    using Chunk = const Element*;
    static constexpr int kTogether = 1;
    static constexpr int kInputs = 1;
    static constexpr int kTemporaries = 0;

    template <int>
    static FUSEDCELL_INLINE void LoadChunk(const Element*& chunk, const Element* p, ptrdiff_t) {
        chunk = p;
    }
    template <int>
    static FUSEDCELL_INLINE void LoadRest(const Element*&, const Element*, ptrdiff_t) {}
    static FUSEDCELL_INLINE void Complete(const Element*&) {}
    static FUSEDCELL_INLINE const Element* WeightsOf(const Element* chunk, int i) {
        return chunk + ptrdiff_t{i} * kElements;
    }
};

struct Float32Loads : ChunkInMemory<float, kLanes> {
    static FUSEDCELL_INLINE F32 WeightsOf(const float* chunk, int i) { return Load(chunk + i * kLanes); }
};
struct Bfloat16Loads : ChunkInMemory<uint16_t, kLanes> {
    static FUSEDCELL_INLINE F32 WeightsOf(const uint16_t* chunk, int i) { return LoadBfloat16(chunk + i * kLanes); }
};
struct Float16Loads : ChunkInMemory<uint16_t, kLanes> {
    static FUSEDCELL_INLINE F32 WeightsOf(const uint16_t* chunk, int i) { return LoadFloat16(chunk + i * kLanes); }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
