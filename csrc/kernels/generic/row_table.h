// The kernels of a tier that has a form of its own for one row, and several rows from the tier that it builds on. Both
// read the same packed weights. The last include of a translation unit in isa/, which says where that tier's kernels
// for weights of a type are:
//
//   FUSEDCELL_ROWS_OF(type)    an expression
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

template <WeightType>
const WeightKernels& RowsOf();
#define FUSEDCELL_WEIGHT_TYPE(name, Weights)                           \
    template <>                                                        \
    FUSEDCELL_INLINE const WeightKernels& RowsOf<WeightType::name>() { \
        return FUSEDCELL_ROWS_OF(name);                                \
    }
#include "kernels/weight_types.inc"

template <class Kernel, class Weights, WeightType kType, MatrixKernel<typename Kernel::Row> WeightKernels::* kKernel>
void RunRow(const PackedMatrix& matrix, const typename Kernel::Row* rows, ptrdiff_t num_rows,
            const BlockRange& blocks) {
    if (num_rows == 1) {
        Run<Kernel, Weights>(matrix, rows, 1, blocks);
    } else {
        (RowsOf<kType>().*kKernel).run(matrix, rows, num_rows, blocks);
    }
}

template <class Kernel, class Row, class Weights, WeightType kType, MatrixKernel<Row> WeightKernels::* kKernel>
constexpr MatrixKernel<Row> DescribeRow() {
    MatrixKernel<Row> kernel = Describe<Kernel, Row, Weights>();
    if constexpr (!IsSame<Kernel, NoKernel>::value) kernel.run = &RunRow<Kernel, Weights, kType, kKernel>;
    return kernel;
}

template <class Weights, WeightType kType>
constexpr WeightKernels DescribeRows() {
    if constexpr (IsSame<Weights, NoKernel>::value) {
        return {};
    } else {
        return {
#define FUSEDCELL_MATRIX_KERNEL(name, Operation, Row) \
    DescribeRow<Operation, Row, Weights, kType, &WeightKernels::name>(),
#define FUSEDCELL_MULTIPLY_KERNEL(name) {},
#include "kernels/kernels.inc"
        };
    }
}

}    // namespace

const RowKernels row_kernels = {
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) DescribeRows<Weights, WeightType::name>(),
#include "kernels/weight_types.inc"
};

}    // namespace fusedcell::FUSEDCELL_ISA
