#define FUSEDCELL_ISA neon_ld64
#define FUSEDCELL_LOADS_64
#include "kernels/simd/dot_i8_neon.h"

#include "kernels/generic/one_row.h"

// Not int8: without SDOT multiplications are its limit, and not loads.
constexpr fusedcell::KernelOverlay fusedcell::neon_ld64::overlay = {
    OneRow<FUSEDCELL_PART(FLOAT32, Float32Weights), neon::kernel_table, &KernelTable::float32>(),
    OneRow<FUSEDCELL_PART(BFLOAT16, Bfloat16Weights), neon::kernel_table, &KernelTable::bfloat16>(),
    OneRow<FUSEDCELL_PART(FLOAT16, Float16Weights), neon::kernel_table, &KernelTable::float16>(),
    {},
    {},
};
