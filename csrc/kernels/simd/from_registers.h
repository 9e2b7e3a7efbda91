// Loads for the multiply-adds of AArch64, which take both weights and inputs from registers: the inputs of four k are
// one load, and a multiply-add takes one of them as a lane; neighbouring weights are loaded together, so that compilers
// make pairs (LDP) of the loads.
#pragma once

// Functions of loops that leave no register free. Before register allocation, GCC's scheduling for AArch64 moves their
// loads up until accumulators have to go to memory; of everything else it makes faster code.
#if defined(__GNUC__) && !defined(__clang__)
#define FUSEDCELL_TILE __attribute__((noinline, optimize("no-schedule-insns")))
#else
#define FUSEDCELL_TILE FUSEDCELL_NOINLINE
#endif

namespace fusedcell::FUSEDCELL_ISA {
namespace {

constexpr int kInputs = 4;
constexpr bool kGatesApart = true;
constexpr int kLoadRegisters = 32;

FUSEDCELL_INLINE F32 LoadInputs(const float* x) { return vld1q_f32(x); }
template <int kLane>
FUSEDCELL_INLINE F32 MulAddInput(F32 w, F32 inputs, F32 acc) {
    return vfmaq_laneq_f32(acc, w, inputs, kLane);
}

FUSEDCELL_INLINE float32x4_t LoadRegister(const float* p) { return vld1q_f32(p); }
FUSEDCELL_INLINE uint16x8_t LoadRegister(const uint16_t* p) { return vld1q_u16(p); }
FUSEDCELL_INLINE int8x16_t LoadRegister(const int8_t* p) { return vld1q_s8(p); }

/// Loads kCount registers, in this order before what follows: GCC would move a load to its use, where cores that
/// execute in order wait for it, and where it finds no pairs.
template <int kCount, class Register, class Element>
FUSEDCELL_INLINE void LoadRegisters(Register* w, const Element* p) {
    constexpr ptrdiff_t kElements = 16 / sizeof(Element);
    FUSEDCELL_UNROLL
    for (int i = 0; i < kCount; ++i) w[i] = LoadRegister(p + i * kElements);
#if defined(__GNUC__) && !defined(__clang__)
    if constexpr (kCount == 4 && sizeof(Element) == 1) asm("" : : "w"(w[0]), "w"(w[1]), "w"(w[2]), "w"(w[3]));
#endif
}

struct Float32Loads {
    using Element = float;
    static constexpr int kTemporaries = 0;
    template <int kSize>
    struct Chunk {
        float32x4_t w[kSize];
    };

    template <int kCount, class AnyChunk>
    static FUSEDCELL_INLINE void LoadChunk(AnyChunk& chunk, const Element* p, ptrdiff_t) {
        LoadRegisters<kCount>(chunk.w, p);
    }
    template <class AnyChunk>
    static FUSEDCELL_INLINE F32 WeightsOf(const AnyChunk& chunk, int i) {
        return chunk.w[i];
    }
};

// Two vectors share a register; an odd last one has half of it.
struct HalfLoads {
    using Element = uint16_t;
    static constexpr int kTemporaries = 1;
    template <int kSize>
    struct Chunk {
        uint16x8_t pairs[(kSize + 1) / 2];
    };

    template <int kCount, class AnyChunk>
    static FUSEDCELL_INLINE void LoadChunk(AnyChunk& chunk, const Element* p, ptrdiff_t) {
        LoadRegisters<kCount / 2>(chunk.pairs, p);
        if constexpr (kCount % 2 != 0) {
            chunk.pairs[kCount / 2] = vcombine_u16(vld1_u16(p + (kCount - 1) * kLanes), vdup_n_u16(0));
        }
    }
};
struct Bfloat16Loads : HalfLoads {
    template <class AnyChunk>
    static FUSEDCELL_INLINE F32 WeightsOf(const AnyChunk& chunk, int i) {
        // Any pipe of a core interleaves; its shifts to twice the width have fewer.
        const uint16x8_t pair = chunk.pairs[i / 2];
        const uint16x8_t zero = vdupq_n_u16(0);
        return vreinterpretq_f32_u16(i % 2 == 0 ? vzip1q_u16(zero, pair) : vzip2q_u16(zero, pair));
    }
};
struct Float16Loads : HalfLoads {
    template <class AnyChunk>
    static FUSEDCELL_INLINE F32 WeightsOf(const AnyChunk& chunk, int i) {
        const float16x8_t pair = vreinterpretq_f16_u16(chunk.pairs[i / 2]);
        return i % 2 == 0 ? vcvt_f32_f16(vget_low_f16(pair)) : vcvt_high_f32_f16(pair);
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
