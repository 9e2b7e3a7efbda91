#define FUSEDCELL_ISA avx512vnni
#include "kernels/simd/dot_i8_avx512vnni.h"

#include "kernels/generic/describe.h"

constexpr fusedcell::KernelOverlay fusedcell::avx512vnni::overlay = Int8Overlay();
