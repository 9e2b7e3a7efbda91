// Entries of the kernel tables, made from kernels.inc.
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

template <class Kernel, class Weights>
constexpr MatrixKernel<typename Kernel::Row> Describe() {
    return {&Run<Kernel, Weights>,           Kernel::kGates,       kPanelsPerBlock<Kernel, Weights>, Weights::kGroup,
            Kernel::kHasInitialAccumulators, Weights::kCompensated};
}

template <class Weights>
constexpr WeightKernels DescribeAll() {
    return {
#define FUSEDCELL_MATRIX_KERNEL(name, Operation, Row) Describe<Operation, Weights>(),
#define FUSEDCELL_MULTIPLY_KERNEL(name) DescribeMultiply<Weights>(),
#include "kernels/kernels.inc"
    };
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
