// Entries of the kernel tables, made from kernels.inc.
#pragma once

#include "kernels/generic/gru.h"
#include "kernels/generic/linear.h"
#include "kernels/generic/lstm.h"
#include "kernels/generic/multiply.h"
#include "kernels/generic/nonzero.h"
#include "kernels/generic/rnn.h"
#include "kernels/generic/sparse.h"
#include "kernels/generic/step.h"
#include "kernels/kept.h"

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
    } else if constexpr (IsSame<Kernel, Sparse>::value) {
        if constexpr (!kKeepsSparse || !Weights::kSparse) {
            return {};
        } else {
            using Run = SparseRun<Weights>;
            return {&Run::Run, 1, Run::kStrips, Weights::kGroup, true, Weights::kCompensated, 0};
        }
    } else if constexpr (IsSame<Kernel, Nonzero>::value) {
        if constexpr (!Weights::kNonzero) {
            return {};
        } else {
            MatrixKernel<Row> kernel = Describe<Linear, Row, Weights>();
            kernel.run = &RunNonzero<Weights>;
            return kernel;
        }
    } else {
        return {&Run<Kernel, Weights>,
                Kernel::kGates,
                kPanelsPerBlock<Kernel, Weights>,
                Weights::kGroup,
                Kernel::kHasInitialAccumulators,
                Weights::kCompensated,
                AtLeastOne(kTallVectors<Weights> / Kernel::kGates)};
    }
}

template <class Kernel, class Weights>
constexpr StepKernel DescribeStep() {
    if constexpr (IsSame<Kernel, NoKernel>::value) {
        return nullptr;
    } else if constexpr (!kHasStep<Kernel, Weights>) {
        return nullptr;
    } else {
        return &Step<Kernel, Weights>;
    }
}

template <class Weights>
constexpr WeightKernels DescribeAll() {
    if constexpr (IsSame<Weights, NoKernel>::value) {
        return {};
    } else {
        return {
#define FUSEDCELL_MATRIX_KERNEL(name, Operation, Row) Describe<Operation, Row, Weights>(),
#define FUSEDCELL_STEP_KERNEL(name, Operation) DescribeStep<Operation, Weights>(),
#define FUSEDCELL_MULTIPLY_KERNEL(name) DescribeMultiply<Weights>(),
#include "kernels/kernels.inc"
        };
    }
}

/// The overlay of a tier that has int8 kernels of its own and everything else from its base.
constexpr KernelOverlay Int8Overlay() {
    KernelOverlay overlay{};
    overlay.int8 = DescribeAll<FUSEDCELL_PART(INT8, Int8Weights)>();
    overlay.int8_int16 = DescribeAll<FUSEDCELL_PART(INT8_INT16, Int8Int16Weights)>();
    return overlay;
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
