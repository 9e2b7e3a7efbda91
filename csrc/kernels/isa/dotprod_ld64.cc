#define FUSEDCELL_ISA dotprod_ld64
#define FUSEDCELL_LOADS_64
#include "kernels/simd/dot_i8_dotprod.h"

#include "kernels/generic/one_row.h"

constexpr fusedcell::KernelOverlay fusedcell::dotprod_ld64::overlay = {
    {},
    {},
    {},
    OneRow<FUSEDCELL_PART(INT8, Int8Weights), dotprod::overlay, &KernelOverlay::int8>(),
    OneRow<FUSEDCELL_PART(INT8_INT16, Int8Int16Weights), dotprod::overlay, &KernelOverlay::int8_int16>(),
};
