// Entries of the kernel tables, made from kernels.inc.
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// The standard library's is not to be had here (docs/layout.md).
template <class A, class B>
struct IsSame {
    static constexpr bool value = false;
};
template <class A>
struct IsSame<A, A> {
    static constexpr bool value = true;
};

template <class Kernel, class Row, class Weights>
constexpr MatrixKernel<Row> Describe() {
    if constexpr (IsSame<Kernel, NoKernel>::value) {
        return {};
    } else {
        return {
            &Run<Kernel, Weights>,           Kernel::kGates,       kPanelsPerBlock<Kernel, Weights>, Weights::kGroup,
            Kernel::kHasInitialAccumulators, Weights::kCompensated};
    }
}

template <class Weights>
constexpr WeightKernels DescribeAll() {
    if constexpr (IsSame<Weights, NoKernel>::value) {
        return {};
    } else {
        return {
#define FUSEDCELL_MATRIX_KERNEL(name, Operation, Row) Describe<Operation, Row, Weights>(),
#define FUSEDCELL_MULTIPLY_KERNEL(name) DescribeMultiply<Weights>(),
#include "kernels/kernels.inc"
        };
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
