// Where the rows of a run lie: of x and y, of states, and of what a run leaves of its steps.
#pragma once

#include <cstddef>

namespace fusedcell {

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
