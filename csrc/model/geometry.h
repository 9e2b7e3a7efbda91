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

// A float array over (time, batch, feature) whose features are contiguous; strides in floats. Or one of packed
// sequences: the rows of each step, as many as have one, follow those of the step before.
template <class T>
struct SequenceView {
    T* data;
    std::ptrdiff_t step_stride;
    std::ptrdiff_t row_stride;
    const std::ptrdiff_t* offsets = nullptr;    // packed: the first row of each step, in place of step_stride

    T* row(std::ptrdiff_t step, std::ptrdiff_t batch_row) const {
        const std::ptrdiff_t first = offsets == nullptr ? step * step_stride : offsets[step] * row_stride;
        return data + first + batch_row * row_stride;
    }
};

/// A contiguous array (T, B, size), or (B, T, size) with batch_first.
template <class T>
SequenceView<T> sequence_view(T* data, std::ptrdiff_t steps, std::ptrdiff_t batch, std::ptrdiff_t size,
                              bool batch_first) {
    return batch_first ? SequenceView<T>{data, size, steps * size} : SequenceView<T>{data, batch * size, size};
}

// Where the state of one row lies: h (P,) and c (H,) of the first layer; the next layer's are `layer_rows` rows on.
struct RowState {
    float* h;
    float* c;    // null without a cell state
    std::ptrdiff_t layer_rows;
};

// The states of a run's rows, layer-major, then direction; with of_cell(), of one layer and direction. They lie beside
// each other, or each where its stream keeps it.
struct StateView {
    const float* h_0;                  // (L * D, B, P)
    float* h_n;                        // (L * D, B, P); may be h_0
    float* c;                          // (L * D, B, H), updated in place; null without a cell state
    const RowState* rows = nullptr;    // (B,): in place of all these, of one direction; updated in place
    std::ptrdiff_t layer = 0;          // of `rows`

    StateView of_cell(std::ptrdiff_t index, std::ptrdiff_t batch, std::ptrdiff_t h_size, std::ptrdiff_t c_size) const {
        if (rows != nullptr) return {nullptr, nullptr, nullptr, rows, index};
        return {h_0 + index * batch * h_size, h_n + index * batch * h_size,
                c == nullptr ? nullptr : c + index * batch * c_size};
    }
    const float* first_h(std::ptrdiff_t row, std::ptrdiff_t size) const {
        return rows == nullptr ? h_0 + row * size : scattered_h(row, size);
    }
    float* last_h(std::ptrdiff_t row, std::ptrdiff_t size) const {
        return rows == nullptr ? h_n + row * size : scattered_h(row, size);
    }
    /// Null without a cell state.
    float* c_of(std::ptrdiff_t row, std::ptrdiff_t size) const {
        if (rows == nullptr) return c == nullptr ? nullptr : c + row * size;
        return rows[row].c == nullptr ? nullptr : rows[row].c + layer * rows[row].layer_rows * size;
    }

private:
    float* scattered_h(std::ptrdiff_t row, std::ptrdiff_t size) const {
        return rows[row].h + layer * rows[row].layer_rows * size;
    }
};

// Where a run leaves what its steps went through. Steps and rows are counted in rows of H = hidden_size floats; G
// gates.
struct TraceView {
    float* cells = nullptr;    // c (H,) of each step and row; null where nobody wants it
    float* gates = nullptr;    // (G, H) of each step and row; null likewise
    std::ptrdiff_t step_stride = 0;
    std::ptrdiff_t row_stride = 0;

    explicit operator bool() const { return cells != nullptr || gates != nullptr; }
    /// The same from `rows` rows later.
    TraceView after(std::ptrdiff_t rows, std::ptrdiff_t units, std::ptrdiff_t num_gates) const {
        return {cells == nullptr ? nullptr : cells + rows * units,
                gates == nullptr ? nullptr : gates + rows * num_gates * units, step_stride, row_stride};
    }
};

}    // namespace fusedcell
