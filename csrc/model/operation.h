// What a node of a model computes of rows, without state: something of each window by itself, so that it does not
// matter how many come at a time. Windows and results are contiguous floats; kernels/kernel_api.h has the order in
// which they are added up.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "kernels/kernel_api.h"
#include "model/node.h"
#include "model/packed_linear.h"
#include "model/window.h"
#include "model/workspace.h"
#include "pack/aligned_buffer.h"

namespace fusedcell {

// Memory that runs of operations work in, one after another. It only grows.
struct OperationSpace {
    InputSpace inputs;                   // of a matrix
    std::vector<LinearRow> rows;         // of a part of each window
    std::vector<float> floats;           // likewise
    std::vector<LinearRow> positions;    // of windows inside a row
    std::vector<float> padded;           // rows with their padding
    Workspace layer;                     // inside a row

    std::size_t nbytes() const { return inputs.nbytes() + bytes_of(rows, floats, positions, padded) + layer.nbytes(); }
};

class Operation {
public:
    Operation(std::ptrdiff_t window_size, std::ptrdiff_t output_size)
        : window_size_(window_size), output_size_(output_size) {}
    virtual ~Operation() = default;
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;

    /// Floats of a window: its taps, oldest first, of all features each.
    std::ptrdiff_t window_size() const { return window_size_; }
    /// Floats of what a window gives.
    std::ptrdiff_t output_size() const { return output_size_; }

    /// Of each row `input` is a window, and `y` does not overlap any. Room for so many has been made. The caller has
    /// set the kernels' floating-point mode.
    virtual void run(const LinearRow* rows, std::ptrdiff_t num_rows, OperationSpace& space) const = 0;
    /// Makes room for up to `rows` windows at a time.
    virtual void reserve(std::ptrdiff_t rows, OperationSpace& space) const;

    /// Multiply-adds of one window.
    virtual double operations() const { return 0; }
    /// Bytes of its weights as they are packed.
    virtual std::size_t nbytes() const { return 0; }

private:
    std::ptrdiff_t window_size_;
    std::ptrdiff_t output_size_;
};

// y = f(b + W x), f elementwise. With several groups the features of a tap, and the outputs, are in as many equal
// parts, each with a matrix of its own over its part of every tap.
struct LinearWeights {
    MatrixView weight;              // (outputs, taps * features / groups)
    const float* bias = nullptr;    // (outputs,), or null
    std::ptrdiff_t outputs = 0;
    std::ptrdiff_t taps = 1;
    std::ptrdiff_t features = 0;    // of a tap, of all groups
    std::ptrdiff_t groups = 1;
};
std::shared_ptr<const Operation> make_linear(const LinearWeights& weights, const Activation* activation,
                                             const KernelTable& kernels);

/// y = table[x], (entries, size), with scales if its type is int8; x is a whole number in a float. Outside the table,
/// all of y is NaN.
std::shared_ptr<const Operation> make_embedding(const MatrixView& table, std::ptrdiff_t entries, std::ptrdiff_t size);

/// y[i] = x[indices[i]], each from 0 to size - 1.
std::shared_ptr<const Operation> make_take(std::vector<std::ptrdiff_t> indices, std::ptrdiff_t size);

/// y[i] = f(x[i]).
std::shared_ptr<const Operation> make_activation(const Activation& activation, std::ptrdiff_t size,
                                                 const KernelTable& kernels);

/// A row kernel of `shape`; the weights it takes, each (parts * size,) or (size,) as kernel_api.h says, are empty or as
/// large.
std::shared_ptr<const Operation> make_row_operation(RowKernel kernel, const RowShape& shape, std::ptrdiff_t output_size,
                                                    std::vector<float> weight, std::vector<float> bias, float epsilon);

/// The operation at windows of `window` inside one row, which is `positions` times its features; their results are
/// beside each other. No window leaves rows out at its left or right.
std::shared_ptr<const Operation> make_inside(std::shared_ptr<const Operation> operation, const Window& window,
                                             std::ptrdiff_t positions);

/// The layer along the `positions` of one row, from these initial states (S, size), or empty, zeros, in every row.
std::shared_ptr<const Operation> make_layer_inside(std::shared_ptr<const Node> layer, std::vector<float> initial_h,
                                                   std::vector<float> initial_c, std::ptrdiff_t positions);

}    // namespace fusedcell
