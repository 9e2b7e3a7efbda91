// How weights of each type become vectors of floats. Every conversion is exact.
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

struct Float32Weights {
    using Element = float;
    static FUSEDCELL_INLINE F32 LoadWide(const Element* p) { return Load(p); }
};

struct Bfloat16Weights {
    using Element = uint16_t;
    static FUSEDCELL_INLINE F32 LoadWide(const Element* p) { return LoadBfloat16(p); }
};

struct Float16Weights {
    using Element = uint16_t;
    static FUSEDCELL_INLINE F32 LoadWide(const Element* p) { return LoadFloat16(p); }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
