#define FUSEDCELL_ISA sse41
#include "kernels/simd/dot_i8_sse41.h"

#include "kernels/generic/table.h"
