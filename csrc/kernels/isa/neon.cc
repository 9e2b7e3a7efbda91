#define FUSEDCELL_ISA neon
#include "kernels/simd/dot_i8_neon.h"

#include "kernels/generic/table.h"
