// Loads of 64 bits, for cores that load no more in a cycle and issue in order. A load of 128 bits takes them two
// cycles, in which they issue nothing else. Of two loads of 64 bits, one to a vector register issues beside an
// insertion, and one to a general register beside a multiply-add, so that the same takes two cycles, the multiply-add
// included: measured on Cortex-A53 and A55 by ncnn's authors (github.com/Tencent/ncnn,
// docs/developer-guide/arm-a53-a55-dual-issue.md). It pays where each weight is used once, so only tiles of one row are
// made of this.
#pragma once

#include <string.h>

#include "kernels/simd/vec_neon.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// One vector at a time, so that loads, insertions and multiply-adds alternate in the program as they are issued; loads
// are for the fifth vector from there, insertions for the second.
constexpr int kMostOfChunk = 1;
constexpr int kMostInRing = 6;

// Tiles of several rows come from the tier that this one builds on (generic/one_row.h).
constexpr bool kOneRowAlone = true;

template <class Register, int kSize>
struct Registers {
    Register w[kSize];
    uint64_t high[kSize];
};

// What is volatile keeps its order: a compiler would join two loads to one that is wider, or move them to their use. A
// load of half a register costs GCC an instruction that clears the other half, unless it is an asm statement, to which
// Clang in turn gives an address in a register of its own. Other compilers have their way.
#if defined(_MSC_VER) && !defined(__clang__)
template <class Register>
FUSEDCELL_INLINE void LoadLow(Register& w, const void* p) {
    w = Register{};
    memcpy(&w, p, 8);
}
FUSEDCELL_INLINE void LoadHigh(uint64_t& high, const void* p) { memcpy(&high, p, sizeof high); }
template <class Register>
FUSEDCELL_INLINE void InsertHigh(Register& w, uint64_t high) {
    memcpy(reinterpret_cast<char*>(&w) + 8, &high, sizeof high);
}
template <class Register>
FUSEDCELL_INLINE Register InPlace(Register value) {
    return value;
}
#else
#define FUSEDCELL_IN_PLACE
#if defined(__clang__)
typedef uint64x1_t AnyVector __attribute__((may_alias));
typedef uint64_t AnyInteger __attribute__((may_alias));
template <class Register>
FUSEDCELL_INLINE void LoadLow(Register& w, const void* p) {
    const uint64x1_t low = *static_cast<const volatile AnyVector*>(p);
    if constexpr (sizeof(Register) == sizeof low) {
        w = __builtin_bit_cast(Register, low);
    } else {
        w = __builtin_bit_cast(Register, __builtin_shufflevector(low, low, 0, -1));    // nothing yet in the upper half
    }
}
FUSEDCELL_INLINE void LoadHigh(uint64_t& high, const void* p) { high = *static_cast<const volatile AnyInteger*>(p); }
#else
struct EightBytes {
    char bytes[8];
};
template <class Register>
FUSEDCELL_INLINE void LoadLow(Register& w, const void* p) {
    asm volatile("ldr %d0, %1" : "=w"(w) : "m"(*static_cast<const EightBytes*>(p)));
}
FUSEDCELL_INLINE void LoadHigh(uint64_t& high, const void* p) {
    asm volatile("ldr %0, %1" : "=r"(high) : "m"(*static_cast<const EightBytes*>(p)));
}
#endif
template <class Register>
FUSEDCELL_INLINE void InsertHigh(Register& w, uint64_t high) {
    asm volatile("ins %0.d[1], %1" : "+w"(w) : "r"(high));
}
template <class Register>
FUSEDCELL_INLINE Register InPlace(Register value) {
    asm volatile("" : "+w"(value));
    return value;
}
#endif

/// Loads the lower halves of kCount registers.
template <int kCount, class AnyRegisters, class Element>
FUSEDCELL_INLINE void LoadRegisters(AnyRegisters& registers, const Element* p) {
    FUSEDCELL_UNROLL
    for (int i = 0; i < kCount; ++i) LoadLow(registers.w[i], p + 2 * i * (8 / sizeof(Element)));
}
template <int kCount, class AnyRegisters, class Element>
FUSEDCELL_INLINE void LoadRestOf(AnyRegisters& registers, const Element* p) {
    FUSEDCELL_UNROLL
    for (int i = 0; i < kCount; ++i) LoadHigh(registers.high[i], p + (2 * i + 1) * (8 / sizeof(Element)));
}
template <class Register, int kSize>
FUSEDCELL_INLINE void CompleteRegisters(Registers<Register, kSize>& registers) {
    FUSEDCELL_UNROLL
    for (int i = 0; i < kSize; ++i) InsertHigh(registers.w[i], registers.high[i]);
}

// A vector of halves is one load; what is to be put together is wider floats.
struct HalfLoads {
    using Element = uint16_t;
    static constexpr int kTemporaries = 1;
    template <int kSize>
    struct Chunk {
        uint16x4_t halves[kSize];
        F32 w[kSize];
    };

    template <int kCount, class AnyChunk>
    static FUSEDCELL_INLINE void LoadChunk(AnyChunk& chunk, const Element* p, ptrdiff_t) {
        FUSEDCELL_UNROLL
        for (int i = 0; i < kCount; ++i) LoadLow(chunk.halves[i], p + ptrdiff_t{i} * kLanes);
    }
    template <int, class AnyChunk>
    static FUSEDCELL_INLINE void LoadRest(AnyChunk&, const Element*, ptrdiff_t) {}
    template <class AnyChunk>
    static FUSEDCELL_INLINE F32 WeightsOf(const AnyChunk& chunk, int i) {
        return chunk.w[i];
    }
};
struct Bfloat16Loads : HalfLoads {
    template <int kSize>
    static FUSEDCELL_INLINE void Complete(Chunk<kSize>& chunk) {
        FUSEDCELL_UNROLL
        for (int i = 0; i < kSize; ++i) {
            chunk.w[i] = InPlace(vreinterpretq_f32_u32(vshll_n_u16(chunk.halves[i], 16)));
        }
    }
};
struct Float16Loads : HalfLoads {
    template <int kSize>
    static FUSEDCELL_INLINE void Complete(Chunk<kSize>& chunk) {
        FUSEDCELL_UNROLL
        for (int i = 0; i < kSize; ++i) {
            chunk.w[i] = InPlace(vcvt_f32_f16(vreinterpret_f16_u16(chunk.halves[i])));
        }
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
