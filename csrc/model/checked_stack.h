// Arrays by name to a Stack, with every check of their shapes and values: what Python's arrays and tensors of files go
// through alike. All errors are std::invalid_argument, and name the array, what was expected and what came.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/shape.h"
#include "model/stack.h"

namespace fusedcell {

// Borrowed floats; `name` is for errors.
struct NamedArray {
    std::string name;
    const float* data;
    Shape shape;

    void expect_shape(const Shape& expected) const;
    /// A weight that is NaN or infinite makes every answer so, and says nothing of where it came from.
    void expect_finite() const;
};

// One weight, the type to store it in, and its scales where it is quantised already: its values are then whole numbers.
struct NamedMatrix {
    NamedArray values;
    std::optional<NamedArray> scales;
    WeightType type = WeightType::float32;

    /// Its type can hold the values, and where there are scales, those and the values are as quantisation makes them.
    void expect_valid() const;
    MatrixView view() const { return {values.data, scales ? scales->data : nullptr, type}; }
};

// Those of one layer and direction, as in CellWeights.
struct NamedCell {
    std::string suffix;    // of its names, also of those that are missing
    NamedMatrix weight_ih, weight_hh;
    std::optional<NamedArray> bias_ih, bias_hh;
    std::optional<NamedMatrix> weight_hr;
    std::optional<NamedArray> weight_peephole;
    std::optional<CellOptions> options;

    CellWeights view() const;
};

struct StackOptions {
    std::ptrdiff_t num_directions = 1;
    bool reverse = false;
    std::vector<double> input_scales;    // none, or one a layer, whose weight_ih are then all int8
};

/// Sizes follow from the shapes. `cells` are layer-major, then direction, and not empty.
std::shared_ptr<Stack> make_checked_stack(CellKind kind, const std::vector<NamedCell>& cells,
                                          const KernelTable& kernels, const StackOptions& options);

/// The same layers with their weights, as they are stored, rounded to other types. `types` and `suffixes`, which are as
/// in NamedCell, are one a cell; `input_scales` as in StackOptions.
std::shared_ptr<Stack> checked_astype(const Stack& stack, const std::vector<CellTypes>& types,
                                      const std::vector<double>& input_scales,
                                      const std::vector<std::string>& suffixes);

}    // namespace fusedcell
