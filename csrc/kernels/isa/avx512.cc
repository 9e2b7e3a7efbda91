#define FUSEDCELL_ISA avx512
#include "kernels/simd/dot_i8_avx512.h"

#include "kernels/generic/table.h"
