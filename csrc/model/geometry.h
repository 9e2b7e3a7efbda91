// What a recurrent layer is, independent of how it is packed or run.
#pragma once

#include <cstddef>
#include <optional>

#include "kernels/kernel_api.h"
#include "model/packed_linear.h"

namespace fusedcell {

enum class CellKind { kRnnTanh, kRnnRelu, kLstm, kGruResetAfter, kGruResetBefore };

constexpr int gates_of(CellKind kind) {
    switch (kind) {
        case CellKind::kLstm: return 4;
        case CellKind::kGruResetAfter:
        case CellKind::kGruResetBefore: return 3;
        case CellKind::kRnnTanh:
        case CellKind::kRnnRelu: return 1;
    }
    return 0;
}

// Sizes of a stack of layers, PyTorch's names.
struct Geometry {
    CellKind kind;
    std::ptrdiff_t input_size;
    std::ptrdiff_t hidden_size;
    std::ptrdiff_t proj_size;    // 0: no projection
    std::ptrdiff_t num_layers;
    std::ptrdiff_t num_directions;
    bool reverse = false;    // the one direction runs from each row's last step to its first

    /// Size of h, which is also what the next layer and the next step see.
    std::ptrdiff_t output_size() const { return proj_size > 0 ? proj_size : hidden_size; }
    std::ptrdiff_t layer_input_size(std::ptrdiff_t layer) const {
        return layer == 0 ? input_size : num_directions * output_size();
    }
    /// Inputs of the widest layer and its hidden units together.
    std::ptrdiff_t largest_depth() const {
        const std::ptrdiff_t later = num_layers > 1 ? num_directions * output_size() : 0;
        return (input_size > later ? input_size : later) + hidden_size;
    }
    /// Whether steps can be taken one by one.
    bool has_streams() const { return num_directions == 1 && !reverse; }
    bool has_cell_state() const { return kind == CellKind::kLstm; }
};

// The types of a cell's matrices; the last matters where there is a projection.
struct CellTypes {
    WeightType weight_ih = WeightType::float32;
    WeightType weight_hh = WeightType::float32;
    WeightType weight_hr = WeightType::float32;
};

// One layer and direction in PyTorch layout: G = gates, gate order i f g o or r z n, P = output_size(). Borrowed for
// the time of packing. Any bias may be null.
struct CellWeights {
    MatrixView weight_ih;                      // (G * hidden_size, layer input size)
    MatrixView weight_hh;                      // (G * hidden_size, P)
    const float* bias_ih = nullptr;            // (G * hidden_size,)
    const float* bias_hh = nullptr;            // (G * hidden_size,)
    MatrixView weight_hr;                      // (proj_size, hidden_size), LSTM with a projection only
    const float* weight_peephole = nullptr;    // (3 * hidden_size,), order i f o, LSTM only
    std::optional<CellOptions> options;        // none: PyTorch's formulas; their peephole is not looked at
};

}    // namespace fusedcell
