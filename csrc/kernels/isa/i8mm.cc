#define FUSEDCELL_ISA i8mm
#include "kernels/simd/dot_i8_i8mm.h"

#include "kernels/generic/describe.h"

constexpr fusedcell::KernelOverlay fusedcell::i8mm::overlay = Int8Overlay();
