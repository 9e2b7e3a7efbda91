// The int8 kernels of a tier that has everything else from another. The last include of its translation unit in isa/.
#pragma once

namespace fusedcell::FUSEDCELL_ISA {

const WeightKernels int8_kernels = DescribeAll<FUSEDCELL_PART(INT8, Int8Weights)>();

}    // namespace fusedcell::FUSEDCELL_ISA
