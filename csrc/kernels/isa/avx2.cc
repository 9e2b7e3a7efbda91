#define FUSEDCELL_ISA avx2
#include "kernels/simd/dot_i8_avx2.h"

#include "kernels/generic/table.h"
