#define FUSEDCELL_ISA sse41
#ifndef FUSEDCELL_WITHOUT_ROW_TILES    // rows would share nothing but loads
#define FUSEDCELL_WITHOUT_ROW_TILES
#endif
#include "kernels/simd/dot_i8_sse41.h"

#include "kernels/generic/table.h"
