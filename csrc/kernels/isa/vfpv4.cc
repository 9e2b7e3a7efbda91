// The scalar kernels, with the fused multiply-add of the hardware.
#define FUSEDCELL_ISA vfpv4
#include "kernels/simd/dot_i8_scalar.h"

#include "kernels/generic/table.h"
