#define FUSEDCELL_ISA dotprod
#include "kernels/simd/dot_i8_dotprod.h"

#include "kernels/generic/describe.h"

constexpr fusedcell::KernelOverlay fusedcell::dotprod::overlay = Int8Overlay();
