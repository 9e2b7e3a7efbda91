// For the multiply-adds of AArch64, which take both weights and inputs from registers: the inputs of four k are one
// load, and a multiply-add takes one of them as a lane. How weights are loaded is in loads_128.h or loads_64.h.
#pragma once

#include "kernels/simd/vec_neon.h"

// Loops over k are those of generic/dot_pipelined.h.
#define FUSEDCELL_PIPELINED

// Functions of loops that leave no register free. Before register allocation, GCC's scheduling for AArch64 moves their
// loads up until accumulators have to go to memory; of everything else it makes faster code.
#if defined(__GNUC__) && !defined(__clang__)
#define FUSEDCELL_TILE __attribute__((noinline, optimize("no-schedule-insns")))
#else
#define FUSEDCELL_TILE FUSEDCELL_NOINLINE
#endif

#ifdef FUSEDCELL_LOADS_64
#include "kernels/simd/loads_64.h"
#else
#include "kernels/simd/loads_128.h"
#endif

namespace fusedcell::FUSEDCELL_ISA {
namespace {

constexpr int kInputs = 4;
constexpr bool kGatesApart = true;
constexpr bool kGroupsFarRows = false;
constexpr bool kPairsOfPanels = true;

FUSEDCELL_INLINE F32 LoadInputs(const float* x) { return vld1q_f32(x); }
template <int kLane>
FUSEDCELL_INLINE F32 MulAddInput(F32 w, F32 inputs, F32 acc) {
#ifdef FUSEDCELL_IN_PLACE
    asm volatile("fmla %0.4s, %1.4s, %2.s[%3]" : "+w"(acc) : "w"(w), "w"(inputs), "i"(kLane));
    return acc;
#else
    return vfmaq_laneq_f32(acc, w, inputs, kLane);
#endif
}

/// What dots share whose loop is pipelined (generic/dot_pipelined.h), with one register a vector.
template <class AnyElement, class Register>
struct PipelinedDot {
    using Element = AnyElement;
    static constexpr int kTemporaries = 0;
    template <int kSize>
    using Chunk = Registers<Register, kSize>;

    template <int kCount, class AnyChunk>
    static FUSEDCELL_INLINE void LoadChunk(AnyChunk& chunk, const Element* p, ptrdiff_t) {
        LoadRegisters<kCount>(chunk, p);
    }
    template <int kCount, class AnyChunk>
    static FUSEDCELL_INLINE void LoadRest(AnyChunk& chunk, const Element* p, ptrdiff_t) {
        LoadRestOf<kCount>(chunk, p);
    }
    template <class AnyChunk>
    static FUSEDCELL_INLINE void Complete(AnyChunk& chunk) {
        CompleteRegisters(chunk);
    }
    template <class AnyChunk>
    static FUSEDCELL_INLINE Register WeightsOf(const AnyChunk& chunk, int i) {
        return chunk.w[i];
    }
};

struct Float32Loads : PipelinedDot<float, float32x4_t> {};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
