#ifndef FUSEDCELL_ISA
#define FUSEDCELL_ISA avxvnni
#endif
#include "kernels/simd/dot_i8_avxvnni.h"

#include "kernels/generic/describe.h"

constexpr fusedcell::KernelOverlay fusedcell::FUSEDCELL_ISA::overlay = Int8Overlay();
