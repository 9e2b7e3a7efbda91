#define FUSEDCELL_ISA scalar
#include "kernels/simd/dot_i8_scalar.h"

#include "kernels/generic/table.h"
