// The kernel table of a tier that is not an overlay, made from kernels.inc; isa/ has a translation unit for each.
#pragma once

#include "kernels/generic/describe.h"
#include "kernels/generic/general.h"
#include "kernels/generic/quantise.h"
#include "kernels/generic/rows.h"
#include "kernels/generic/training.h"
#include "kernels/kept.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// Eight chains of additions hide their latency, so that loads are the limit.
float ReadFloats(const float* data, ptrdiff_t size) {
    F32 sum[8];
    for (F32& s : sum) s = Zero();
    ptrdiff_t i = 0;
    for (; i + 8 * kLanes <= size; i += 8 * kLanes) {
        FUSEDCELL_UNROLL
        for (int v = 0; v < 8; ++v) sum[v] = Add(sum[v], Load(data + i + v * kLanes));
    }
    float lanes[8 * kLanes];
    for (int v = 0; v < 8; ++v) Store(lanes + v * kLanes, sum[v]);
    float total = 0.0F;
    for (const float lane : lanes) total += lane;
    for (; i < size; ++i) total += data[i];
    return total;
}

template <class Cell>
constexpr GateKernel DescribeGates() {
    if constexpr (IsSame<Cell, NoKernel>::value) {
        return nullptr;
    } else {
        return &Gates<Cell>;
    }
}

template <class Weights>
constexpr QuantiseKernel DescribeQuantise(QuantiseKernel kernel) {
    return IsSame<Weights, NoKernel>::value ? nullptr : kernel;
}

#define FUSEDCELL_STRING(name) #name
#define FUSEDCELL_EXPANDED_STRING(name) FUSEDCELL_STRING(name)

}    // namespace

const KernelTable kernel_table = {
    FUSEDCELL_EXPANDED_STRING(FUSEDCELL_ISA),
    kLanes,
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) DescribeAll<Weights>(),
#include "kernels/weight_types.inc"
#define FUSEDCELL_GATE_KERNEL(name, Cell) DescribeGates<Cell>(),
#define FUSEDCELL_ACTIVATION_KERNEL(name) &ActivateAll,
#define FUSEDCELL_ROW_KERNEL(name, Function, is_kept) (is_kept) ? RowKernel{Function} : nullptr,
#define FUSEDCELL_MAP_KERNEL(name, Function) kForPython ? MapKernel{&Map<Function>} : nullptr,
#define FUSEDCELL_QUANTISE_KERNEL(name, Function, Weights) DescribeQuantise<Weights>(&Function),
#define FUSEDCELL_LIST_KERNEL(name) &ListNonzeros,
#define FUSEDCELL_READ_KERNEL(name) kForPython ? ReadKernel{&ReadFloats} : nullptr,
#define FUSEDCELL_TRAINING_KERNEL(name, Type, Function) kForPython ? Type{Function} : nullptr,
#include "kernels/kernels.inc"
};

}    // namespace fusedcell::FUSEDCELL_ISA
