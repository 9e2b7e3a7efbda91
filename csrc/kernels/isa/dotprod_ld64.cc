#define FUSEDCELL_ISA dotprod_ld64
#define FUSEDCELL_LOADS_64
// The others are those of neon_ld64.
#ifndef FUSEDCELL_WITHOUT_FLOAT32
#define FUSEDCELL_WITHOUT_FLOAT32
#endif
#ifndef FUSEDCELL_WITHOUT_BFLOAT16
#define FUSEDCELL_WITHOUT_BFLOAT16
#endif
#ifndef FUSEDCELL_WITHOUT_FLOAT16
#define FUSEDCELL_WITHOUT_FLOAT16
#endif
#define FUSEDCELL_ROWS_OF(type) dotprod::int8_kernels
#include "kernels/kernel_api.h"
#include "kernels/simd/dot_i8_dotprod.h"
#include "kernels/simd/vec_neon.h"

#include "kernels/generic/pair.h"

#include "kernels/generic/activations.h"
#include "kernels/generic/dot.h"

#include "kernels/generic/weights.h"

#include "kernels/generic/tile.h"

#include "kernels/generic/gru.h"
#include "kernels/generic/linear.h"
#include "kernels/generic/lstm.h"
#include "kernels/generic/rnn.h"

#include "kernels/generic/multiply.h"

#include "kernels/generic/describe.h"

#include "kernels/generic/row_table.h"
