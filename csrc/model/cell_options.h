// What a cell's options mean for how it is run.
#pragma once

#include <optional>

#include "kernels/kernel_api.h"
#include "model/geometry.h"

namespace fusedcell {

/// How many activations a cell has: f, f g or f g h.
int activations_of(CellKind kind);

/// PyTorch's formulas as options.
CellOptions usual_options(CellKind kind);

/// The kind that has kernels of its own for what these options say, the plain RNNs being each other's; or none.
std::optional<CellKind> plain_kind(CellKind kind, const CellOptions& options);

/// Whether what multiplies R, or weight_hr, cannot leave [-1, 1] but by an initial state (docs/quantisation.md).
bool is_bounded(CellKind kind, const CellOptions& options);

}    // namespace fusedcell
