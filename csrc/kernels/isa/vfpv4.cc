// The scalar kernels, with the fused multiply-add of the hardware.
#define FUSEDCELL_ISA vfpv4
#include "kernels/kernel_api.h"
#include "kernels/simd/dot_i8_scalar.h"
#include "kernels/simd/vec_scalar.h"

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
#include "kernels/generic/general.h"
#include "kernels/generic/quantise.h"

#include "kernels/generic/table.h"
