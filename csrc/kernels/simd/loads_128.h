// Loads of 128 bits: neighbouring weights are loaded together, so that compilers make pairs (LDP) of the loads.
#pragma once

#include "kernels/simd/vec_neon.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

constexpr bool kOneRowAlone = false;
constexpr int kMostOfChunk = 4;
constexpr int kMostInRing = 2;

template <class Register, int kSize>
struct Registers {
    Register w[kSize];
};

FUSEDCELL_INLINE float32x4_t LoadRegister(const float* p) { return vld1q_f32(p); }
FUSEDCELL_INLINE uint16x8_t LoadRegister(const uint16_t* p) { return vld1q_u16(p); }
FUSEDCELL_INLINE int8x16_t LoadRegister(const int8_t* p) { return vld1q_s8(p); }

/// Loads kCount registers, in this order before what follows: GCC would move a load to its use, where cores that
/// execute in order wait for it, and where it finds no pairs.
template <int kCount, class AnyRegisters, class Element>
FUSEDCELL_INLINE void LoadRegisters(AnyRegisters& registers, const Element* p) {
    constexpr ptrdiff_t kElements = 16 / sizeof(Element);
    auto& w = registers.w;
    FUSEDCELL_UNROLL
    for (int i = 0; i < kCount; ++i) w[i] = LoadRegister(p + i * kElements);
#if defined(__GNUC__) && !defined(__clang__)
    if constexpr (kCount == 4 && sizeof(Element) == 1) asm("" : : "w"(w[0]), "w"(w[1]), "w"(w[2]), "w"(w[3]));
#endif
}
template <int, class AnyRegisters, class Element>
FUSEDCELL_INLINE void LoadRestOf(AnyRegisters&, const Element*) {}
template <class AnyRegisters>
FUSEDCELL_INLINE void CompleteRegisters(AnyRegisters&) {}

#if defined(__GNUC__)
/// Loads the 32 bytes that begin kOffset bytes into a table, for multiply-adds. FMLA overwrites its addend, so that a
/// constant must come to another register first: copies take the pipes that multiply, loads do not. `operand` belongs
/// to one of the multiply-adds; without it compilers would load once for several, and copy.
#define FUSEDCELL_LOADS_ADDENDS
template <int kOffset, class Table>
FUSEDCELL_INLINE void LoadTwo(const Table& table, F32 operand, F32& a, F32& b) {
    asm("ldp %q0, %q1, [%2, %3]" : "=w"(a), "=w"(b) : "r"(&table), "i"(kOffset), "w"(operand), "m"(table));
}
#endif

// Two vectors share a register; an odd last one has half of it.
struct HalfLoads {
    using Element = uint16_t;
    static constexpr int kTemporaries = 1;
    template <int kSize>
    using Chunk = Registers<uint16x8_t, (kSize + 1) / 2>;

    template <int kCount, class AnyChunk>
    static FUSEDCELL_INLINE void LoadChunk(AnyChunk& chunk, const Element* p, ptrdiff_t) {
        LoadRegisters<kCount / 2>(chunk, p);
        if constexpr (kCount % 2 != 0) {
            chunk.w[kCount / 2] = vcombine_u16(vld1_u16(p + (kCount - 1) * kLanes), vdup_n_u16(0));
        }
    }
    template <int, class AnyChunk>
    static FUSEDCELL_INLINE void LoadRest(AnyChunk&, const Element*, ptrdiff_t) {}
    template <class AnyChunk>
    static FUSEDCELL_INLINE void Complete(AnyChunk&) {}
};
struct Bfloat16Loads : HalfLoads {
    template <class AnyChunk>
    static FUSEDCELL_INLINE F32 WeightsOf(const AnyChunk& chunk, int i) {
        // Any pipe of a core interleaves; its shifts to twice the width have fewer.
        const uint16x8_t pair = chunk.w[i / 2];
        const uint16x8_t zero = vdupq_n_u16(0);
        return vreinterpretq_f32_u16(i % 2 == 0 ? vzip1q_u16(zero, pair) : vzip2q_u16(zero, pair));
    }
};
struct Float16Loads : HalfLoads {
    template <class AnyChunk>
    static FUSEDCELL_INLINE F32 WeightsOf(const AnyChunk& chunk, int i) {
        const float16x8_t pair = vreinterpretq_f16_u16(chunk.w[i / 2]);
        return i % 2 == 0 ? vcvt_f32_f16(vget_low_f16(pair)) : vcvt_high_f32_f16(pair);
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
