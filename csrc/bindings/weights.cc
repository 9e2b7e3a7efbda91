#include "bindings/weights.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "bindings/arrays.h"
#include "cpu/dispatch.h"

namespace fusedcell::bindings {
namespace {

struct NamedKind {
    const char* name;
    CellKind kind;
};
constexpr NamedKind kKinds[] = {
    {"rnn_tanh", CellKind::kRnnTanh},
    {"rnn_relu", CellKind::kRnnRelu},
    {"lstm", CellKind::kLstm},
    {"gru_reset_after", CellKind::kGruResetAfter},
    {"gru_reset_before", CellKind::kGruResetBefore},
};

CellKind kind_from_name(const std::string& name) {
    for (const NamedKind& entry : kKinds) {
        if (name == entry.name) return entry.kind;
    }
    throw py::value_error("kind: there is no cell '" + name + "'");
}

std::optional<FloatArray> optional_array(const py::dict& arrays, const char* key, const std::string& suffix) {
    if (!arrays.contains(key) || arrays[key].is_none()) return std::nullopt;
    return FloatArray(arrays[key], key + suffix);
}

// One weight, and its scales where it is quantised already.
struct MatrixArray {
    FloatArray values;
    std::optional<FloatArray> scales;

    MatrixView view() const { return {values.data(), scales ? scales->data() : nullptr}; }
};

std::optional<MatrixArray> optional_matrix(const py::dict& arrays, const std::string& key, const std::string& suffix) {
    std::optional<FloatArray> values = optional_array(arrays, key.c_str(), suffix);
    if (!values) return std::nullopt;
    return MatrixArray{*std::move(values), optional_array(arrays, (key + "_scale").c_str(), suffix)};
}

MatrixArray required_matrix(const py::dict& arrays, const char* key, const std::string& suffix) {
    std::optional<MatrixArray> matrix = optional_matrix(arrays, key, suffix);
    if (!matrix) throw py::type_error(key + suffix + ": expected an array of floats, got None");
    return *std::move(matrix);
}

void check_values(const MatrixArray& matrix, WeightType type) {
    const FloatArray& array = matrix.values;
    const std::ptrdiff_t depth = array.dim(1);
    const auto refuse = [&](std::ptrdiff_t index, const std::string& expected) {
        throw py::value_error(array.name() + ": expected " + expected + ", got " + std::to_string(array.data()[index]) +
                              " at index (" + std::to_string(index / depth) + ", " + std::to_string(index % depth) +
                              ")");
    };
    for (std::ptrdiff_t i = 0; i < array.dim(0) * depth; ++i) {
        const float value = array.data()[i];
        if (!matrix.scales) {
            if (!fits(type, value)) refuse(i, "weights that " + weight_type_name(type) + " can hold");
        } else if (std::nearbyint(value) != value || std::fabs(value) > 127.0F) {
            refuse(i, "whole numbers from -127 to 127");
        } else if (matrix.scales->data()[i / depth] == 0.0F && value != 0.0F) {
            refuse(i, "zero, as the row's scale is zero");
        }
    }
}

void check_scales(const MatrixArray& matrix, WeightType type) {
    if (!matrix.scales) return;
    const FloatArray& scales = *matrix.scales;
    if (type != WeightType::int8) throw py::value_error(scales.name() + ": only int8 weights have scales");
    scales.expect_shape({matrix.values.dim(0)});
    for (std::ptrdiff_t i = 0; i < scales.dim(0); ++i) {
        const float scale = scales.data()[i];
        // 2^-100 / 127, below which a row counts as zero, is a little more than 2^-107.
        if (scale == 0.0F || (scale >= 0x1p-107F && std::isfinite(scale))) continue;
        throw py::value_error(scales.name() + ": expected 0 or a scale from 2^-107 on, got " + std::to_string(scale) +
                              " at index " + std::to_string(i));
    }
}

// The arrays of one layer and direction, kept alive and in float32 until they are packed.
struct CellArrays {
    MatrixArray weight_ih, weight_hh;
    std::optional<FloatArray> bias_ih, bias_hh;
    std::optional<MatrixArray> weight_hr;
    std::optional<FloatArray> weight_peephole;

    CellArrays(const py::dict& arrays, const std::string& suffix)
        : weight_ih(required_matrix(arrays, "weight_ih", suffix)),
          weight_hh(required_matrix(arrays, "weight_hh", suffix)),
          bias_ih(optional_array(arrays, "bias_ih", suffix)),
          bias_hh(optional_array(arrays, "bias_hh", suffix)),
          weight_hr(optional_matrix(arrays, "weight_hr", suffix)),
          weight_peephole(optional_array(arrays, "weight_peephole", suffix)) {}

    std::vector<const MatrixArray*> matrices() const {
        std::vector<const MatrixArray*> all{&weight_ih, &weight_hh};
        if (weight_hr) all.push_back(&*weight_hr);
        return all;
    }

    CellWeights view() const {
        const auto data = [](const std::optional<FloatArray>& array) { return array ? array->data() : nullptr; };
        return {weight_ih.view(),
                weight_hh.view(),
                data(bias_ih),
                data(bias_hh),
                weight_hr ? weight_hr->view() : MatrixView{},
                data(weight_peephole),
                std::nullopt};
    }
};

void expect_matrix(const FloatArray& array, const std::string& expected) {
    if (array.ndim() != 2 || array.dim(0) < 1 || array.dim(1) < 1) {
        throw_shape_error(array.name(), expected, to_text(array.shape()));
    }
}

Geometry infer_geometry(CellKind kind, const CellArrays& first, std::ptrdiff_t layers, std::ptrdiff_t directions) {
    const int gates = gates_of(kind);
    const std::string rows = gates == 1 ? "hidden_size" : std::to_string(gates) + " * hidden_size";
    expect_matrix(first.weight_ih.values, "(" + rows + ", input_size)");
    if (first.weight_ih.values.dim(0) % gates != 0) {
        throw_shape_error(first.weight_ih.values.name(), "(" + rows + ", input_size)",
                          to_text(first.weight_ih.values.shape()));
    }
    Geometry geometry{kind,      first.weight_ih.values.dim(1), first.weight_ih.values.dim(0) / gates, 0, layers,
                      directions};
    if (first.weight_hr) {
        if (kind != CellKind::kLstm)
            throw py::value_error(first.weight_hr->values.name() + ": only the LSTM has a projection");
        expect_matrix(first.weight_hr->values, "(proj_size, hidden_size)");
        geometry.proj_size = first.weight_hr->values.dim(0);
    }
    if (first.weight_peephole && kind != CellKind::kLstm) {
        throw py::value_error(first.weight_peephole->name() + ": only the LSTM has peepholes");
    }
    return geometry;
}

void check_peephole(const Geometry& geometry, const CellArrays& cell, bool expected, const std::string& suffix) {
    if (cell.weight_peephole && !expected) {
        throw py::value_error(cell.weight_peephole->name() + ": unexpected, other layers have no peepholes");
    }
    if (!cell.weight_peephole && expected) {
        throw py::value_error("weight_peephole" + suffix + ": missing, but other layers have peepholes");
    }
    if (cell.weight_peephole) cell.weight_peephole->expect_shape({3 * geometry.hidden_size});
}

void check_shapes(const Geometry& geometry, std::ptrdiff_t input_size, const CellArrays& cell,
                  const std::string& suffix) {
    const std::ptrdiff_t rows = gates_of(geometry.kind) * geometry.hidden_size;
    cell.weight_ih.values.expect_shape({rows, input_size});
    cell.weight_hh.values.expect_shape({rows, geometry.output_size()});
    if (cell.bias_ih) cell.bias_ih->expect_shape({rows});
    if (cell.bias_hh) cell.bias_hh->expect_shape({rows});
    if (cell.weight_hr) {
        cell.weight_hr->values.expect_shape({geometry.proj_size, geometry.hidden_size});
    } else if (geometry.proj_size > 0) {
        throw py::value_error("weight_hr" + suffix + ": missing, but other layers have a projection");
    }
    if (cell.weight_hr && geometry.proj_size == 0) {
        throw py::value_error(cell.weight_hr->values.name() + ": unexpected, other layers have no projection");
    }
}

}    // namespace

WeightType weight_type_from_name(const std::string& name) {
#define FUSEDCELL_WEIGHT_TYPE(type, Weights) \
    if (name == #type) return WeightType::type;
#include "kernels/weight_types.inc"
    throw py::value_error("dtype: there is no weight type '" + name + "'");
}

std::string weight_type_name(WeightType type) {
    switch (type) {
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) \
    case WeightType::name: return #name;
#include "kernels/weight_types.inc"
    }
    return "";
}

std::string kind_name(CellKind kind) {
    for (const NamedKind& entry : kKinds) {
        if (entry.kind == kind) return entry.name;
    }
    return "";
}

std::vector<float> checked_input_scales(const std::vector<double>& scales, std::ptrdiff_t num_layers, WeightType type) {
    if (scales.empty()) return {};
    if (type != WeightType::int8)
        throw py::value_error("input_scales: only int8 has them, not " + weight_type_name(type));
    if (scales.size() != static_cast<std::size_t>(num_layers)) {
        throw py::value_error("input_scales: expected one a layer, " + std::to_string(num_layers) + ", got " +
                              std::to_string(scales.size()));
    }
    for (const double scale : scales) {
        if (scale >= 0x1p-100 && scale <= 0x1p100) continue;
        throw py::value_error("input_scales: expected scales from 2^-100 to 2^100, got " + std::to_string(scale));
    }
    return {scales.begin(), scales.end()};
}

std::shared_ptr<Stack> make_stack(const std::string& kind, const py::list& cells,
                                  const std::vector<std::string>& suffixes, std::ptrdiff_t num_directions,
                                  const std::string& dtype, const std::string& isa,
                                  const std::vector<double>& input_scales, const std::vector<OptionsTuple>& options,
                                  bool reverse) {
    if (num_directions != 1 && num_directions != 2) throw py::value_error("num_directions: expected 1 or 2");
    if (reverse && num_directions == 2) throw py::value_error("reverse: expected False with two directions");
    if (cells.empty() || cells.size() != suffixes.size() ||
        cells.size() % static_cast<std::size_t>(num_directions) != 0) {
        throw py::value_error("cells: expected one dict and one suffix per layer and direction");
    }
    if (!options.empty() && options.size() != cells.size()) {
        throw py::value_error("options: expected one per layer and direction, " + std::to_string(cells.size()) +
                              ", or none, got " + std::to_string(options.size()));
    }
    const KernelTable& kernels = select_tier(isa);
    const WeightType type = weight_type_from_name(dtype);
    std::vector<CellArrays> arrays;
    std::vector<CellWeights> weights;
    arrays.reserve(cells.size());
    weights.reserve(cells.size());
    for (std::size_t i = 0; i < cells.size(); ++i) arrays.emplace_back(cells[i].cast<py::dict>(), suffixes[i]);
    const auto layers = static_cast<std::ptrdiff_t>(cells.size()) / num_directions;
    Geometry geometry = infer_geometry(kind_from_name(kind), arrays[0], layers, num_directions);
    geometry.reverse = reverse;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
        const std::ptrdiff_t layer = static_cast<std::ptrdiff_t>(i) / num_directions;
        const CellArrays& cell = arrays[i];
        check_shapes(geometry, geometry.layer_input_size(layer), cell, suffixes[i]);
        check_peephole(geometry, cell, arrays[0].weight_peephole.has_value(), suffixes[i]);
        for (const MatrixArray* matrix : cell.matrices()) {
            if (matrix->scales.has_value() != cell.weight_ih.scales.has_value()) {
                throw py::value_error(matrix->values.name() + ": expected all weights with scales, or none");
            }
            check_scales(*matrix, type);
            check_values(*matrix, type);
        }
        weights.push_back(cell.view());
        if (!options.empty()) weights.back().options = to_options(geometry.kind, options[i]);
    }
    return std::make_shared<Stack>(geometry, weights, type, kernels, checked_input_scales(input_scales, layers, type));
}

py::list arrays_of(const Stack& stack) {
    const Geometry& geometry = stack.geometry();
    const std::ptrdiff_t rows = gates_of(geometry.kind) * geometry.hidden_size;
    const auto to_array = [](const std::vector<float>& values, const Shape& shape) {
        py::object array = new_array(shape);
        std::copy(values.begin(), values.end(), data_of(array));
        return array;
    };
    py::list cells;
    for (const UnpackedCell& cell : stack.unpack()) {
        const std::ptrdiff_t layer = static_cast<std::ptrdiff_t>(cells.size()) / geometry.num_directions;
        py::dict arrays;
        const auto add = [&](const char* name, const UnpackedMatrix& matrix, std::ptrdiff_t matrix_rows,
                             std::ptrdiff_t depth) {
            arrays[name] = to_array(matrix.values, {matrix_rows, depth});
            if (!matrix.scales.empty())
                arrays[py::str(name) + py::str("_scale")] = to_array(matrix.scales, {matrix_rows});
        };
        add("weight_ih", cell.weight_ih, rows, geometry.layer_input_size(layer));
        add("weight_hh", cell.weight_hh, rows, geometry.output_size());
        arrays["bias_ih"] = to_array(cell.bias_ih, {rows});
        arrays["bias_hh"] = to_array(cell.bias_hh, {rows});
        if (geometry.proj_size > 0) add("weight_hr", cell.weight_hr, geometry.proj_size, geometry.hidden_size);
        if (!cell.weight_peephole.empty()) {
            arrays["weight_peephole"] = to_array(cell.weight_peephole, {3 * geometry.hidden_size});
        }
        cells.append(arrays);
    }
    return cells;
}

}    // namespace fusedcell::bindings
