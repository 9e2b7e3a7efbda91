// The kernels of avxvnni in EVEX encoding.
#define FUSEDCELL_ISA avxvnni_evex
#include "kernels/kernel_api.h"

namespace fusedcell::FUSEDCELL_ISA {
extern const KernelOverlay overlay;
}

#include "kernels/isa/avxvnni.cc"
