// Kernels that have a form of their own for one row, and take several rows as another tier does, which reads the same
// packed weights.
#pragma once

#include "kernels/generic/describe.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

// kTier is a KernelTable or KernelOverlay, kType its member for the type of weights and kKernel that one's kernel.
template <class Kernel, class Weights, const auto& kTier, auto kType, auto kKernel>
void RunRows(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
             const BlockRange& blocks) {
    if constexpr (!IsSame<Kernel, Sparse>::value && !IsSame<Kernel, Nonzero>::value) {
        if (num_rows == 1) {
            Run<Kernel, Weights>(matrix, rows, 1, blocks);
            return;
        }
    }
    (kTier.*kType.*kKernel).run(matrix, rows, num_rows, blocks);
}

template <class Kernel, class Row, class Weights, const auto& kTier, auto kType, auto kKernel>
constexpr MatrixKernel<Row> DescribeOneRow() {
    if constexpr (IsSame<Kernel, NoKernel>::value) {
        return {};
    } else {
        MatrixKernel<Row> kernel = Describe<Kernel, Row, Weights>();
        if (kernel.run != nullptr) kernel.run = &RunRows<Kernel, Weights, kTier, kType, kKernel>;
        return kernel;
    }
}

// How fast the tier can multiply is a matter of several rows.
template <const auto& kTier, auto kType>
float MultiplyOf(ptrdiff_t rounds) {
    return (kTier.*kType).multiply.run(rounds);
}

template <class Weights, const auto& kTier, auto kType>
constexpr MultiplyKernel DescribeMultiplyOf() {
    if constexpr (!kForPython) {
        return {};
    } else {
        return {&MultiplyOf<kTier, kType>, DescribeMultiply<Weights>().multiply_adds};
    }
}

template <class Weights, const auto& kTier, auto kType>
constexpr WeightKernels OneRow() {
    if constexpr (IsSame<Weights, NoKernel>::value) {
        return {};
    } else {
        return {
#define FUSEDCELL_MATRIX_KERNEL(name, Operation, Row) \
    DescribeOneRow<Operation, Row, Weights, kTier, kType, &WeightKernels::name>(),
#define FUSEDCELL_STEP_KERNEL(name, Operation) DescribeStep<Operation, Weights>(),
#define FUSEDCELL_MULTIPLY_KERNEL(name) DescribeMultiplyOf<Weights, kTier, kType>(),
#include "kernels/kernels.inc"
        };
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
