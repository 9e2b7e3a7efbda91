// Stack: argument checks of construction and of whole-sequence and functional calls.
#include "model/stack.h"

#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <optional>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
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

FloatArray required_array(const py::dict& arrays, const char* key, const std::string& suffix) {
    std::optional<FloatArray> array = optional_array(arrays, key, suffix);
    if (!array) throw py::type_error(key + suffix + ": expected an array of floats, got None");
    return *std::move(array);
}

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

void check_range(const FloatArray& array, WeightType type) {
    const std::ptrdiff_t size = array.dim(0) * array.dim(1);
    for (std::ptrdiff_t i = 0; i < size; ++i) {
        if (!fits(type, array.data()[i])) {
            throw py::value_error(array.name() + ": expected weights that " + weight_type_name(type) +
                                  " can hold, got " + std::to_string(array.data()[i]) + " at index (" +
                                  std::to_string(i / array.dim(1)) + ", " + std::to_string(i % array.dim(1)) + ")");
        }
    }
}

// The arrays of one layer and direction, kept alive and in float32 until they are packed.
struct CellArrays {
    FloatArray weight_ih, weight_hh;
    std::optional<FloatArray> bias_ih, bias_hh, weight_hr;

    CellArrays(const py::dict& arrays, const std::string& suffix)
        : weight_ih(required_array(arrays, "weight_ih", suffix)),
          weight_hh(required_array(arrays, "weight_hh", suffix)),
          bias_ih(optional_array(arrays, "bias_ih", suffix)),
          bias_hh(optional_array(arrays, "bias_hh", suffix)),
          weight_hr(optional_array(arrays, "weight_hr", suffix)) {}

    CellWeights view() const {
        const auto data = [](const std::optional<FloatArray>& array) { return array ? array->data() : nullptr; };
        return {weight_ih.data(), weight_hh.data(), data(bias_ih), data(bias_hh), data(weight_hr)};
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
    expect_matrix(first.weight_ih, "(" + rows + ", input_size)");
    if (first.weight_ih.dim(0) % gates != 0) {
        throw_shape_error(first.weight_ih.name(), "(" + rows + ", input_size)", to_text(first.weight_ih.shape()));
    }
    Geometry geometry{kind, first.weight_ih.dim(1), first.weight_ih.dim(0) / gates, 0, layers, directions};
    if (first.weight_hr) {
        if (kind != CellKind::kLstm)
            throw py::value_error(first.weight_hr->name() + ": only the LSTM has a projection");
        expect_matrix(*first.weight_hr, "(proj_size, hidden_size)");
        geometry.proj_size = first.weight_hr->dim(0);
    }
    return geometry;
}

void check_shapes(const Geometry& geometry, std::ptrdiff_t input_size, const CellArrays& cell,
                  const std::string& suffix) {
    const std::ptrdiff_t rows = gates_of(geometry.kind) * geometry.hidden_size;
    cell.weight_ih.expect_shape({rows, input_size});
    cell.weight_hh.expect_shape({rows, geometry.output_size()});
    if (cell.bias_ih) cell.bias_ih->expect_shape({rows});
    if (cell.bias_hh) cell.bias_hh->expect_shape({rows});
    if (cell.weight_hr) {
        cell.weight_hr->expect_shape({geometry.proj_size, geometry.hidden_size});
    } else if (geometry.proj_size > 0) {
        throw py::value_error("weight_hr" + suffix + ": missing, but other layers have a projection");
    }
    if (cell.weight_hr && geometry.proj_size == 0) {
        throw py::value_error(cell.weight_hr->name() + ": unexpected, other layers have no projection");
    }
}

std::shared_ptr<Stack> make_stack(const std::string& kind_name, const py::list& cells,
                                  const std::vector<std::string>& suffixes, std::ptrdiff_t num_directions,
                                  const std::string& dtype, const std::string& isa) {
    if (num_directions != 1 && num_directions != 2) throw py::value_error("num_directions: expected 1 or 2");
    if (cells.empty() || cells.size() != suffixes.size() ||
        cells.size() % static_cast<std::size_t>(num_directions) != 0) {
        throw py::value_error("cells: expected one dict and one suffix per layer and direction");
    }
    const KernelTable& kernels = select_tier(isa);
    const CellKind kind = kind_from_name(kind_name);
    const WeightType type = weight_type_from_name(dtype);
    std::vector<CellArrays> arrays;
    std::vector<CellWeights> weights;
    arrays.reserve(cells.size());
    weights.reserve(cells.size());
    for (std::size_t i = 0; i < cells.size(); ++i) arrays.emplace_back(cells[i].cast<py::dict>(), suffixes[i]);
    const auto layers = static_cast<std::ptrdiff_t>(cells.size()) / num_directions;
    const Geometry geometry = infer_geometry(kind, arrays[0], layers, num_directions);
    for (std::size_t i = 0; i < arrays.size(); ++i) {
        const std::ptrdiff_t layer = static_cast<std::ptrdiff_t>(i) / num_directions;
        const CellArrays& cell = arrays[i];
        check_shapes(geometry, geometry.layer_input_size(layer), cell, suffixes[i]);
        check_range(cell.weight_ih, type);
        check_range(cell.weight_hh, type);
        if (cell.weight_hr) check_range(*cell.weight_hr, type);
        weights.push_back(cell.view());
    }
    return std::make_shared<Stack>(geometry, weights, type, kernels);
}

// Copies a given state into a new array of shape `shape`, or makes zeros. `also` is another accepted shape.
py::object initial_state(py::handle value, const char* name, const Shape& shape, const Shape& also) {
    py::object state = new_array(shape);
    std::size_t size = 1;
    for (const std::ptrdiff_t dim : shape) size *= static_cast<std::size_t>(dim);
    if (value.is_none()) {
        std::memset(data_of(state), 0, size * sizeof(float));
        return state;
    }
    const FloatArray given(value, name);
    if (given.shape() != shape && given.shape() != also) {
        throw_shape_error(name, to_text(shape), to_text(given.shape()));
    }
    std::memcpy(data_of(state), given.data(), size * sizeof(float));
    return state;
}

// Whole sequences. x is (T, B, I), (B, T, I) with batch_first, or (T, I).
py::tuple run(const Stack& stack, py::handle x_value, py::handle h_value, py::handle c_value, py::handle lengths_value,
              bool batch_first) {
    const Geometry& geometry = stack.geometry();
    const FloatArray x(x_value, "x");
    if ((x.ndim() != 2 && x.ndim() != 3) || x.dim(x.ndim() - 1) != geometry.input_size) {
        const std::string size = std::to_string(geometry.input_size);
        throw_shape_error("x",
                          (batch_first ? "(batch, steps, " : "(steps, batch, ") + size + ") or (steps, " + size + ")",
                          to_text(x.shape()));
    }
    const bool batched = x.ndim() == 3;
    const std::ptrdiff_t steps = batched && batch_first ? x.dim(1) : x.dim(0);
    const std::ptrdiff_t batch = !batched ? 1 : batch_first ? x.dim(0) : x.dim(1);
    const std::ptrdiff_t inputs = geometry.input_size;
    const std::ptrdiff_t outputs = geometry.num_directions * geometry.output_size();
    const std::ptrdiff_t states = geometry.num_layers * geometry.num_directions;

    const auto state_shape = [&](std::ptrdiff_t size) {
        return batched ? Shape{states, batch, size} : Shape{states, size};
    };
    const auto other_shape = [&](std::ptrdiff_t size) {
        return batched ? Shape{states, batch, size} : Shape{states, 1, size};
    };
    const py::object h =
        initial_state(h_value, "h_0", state_shape(geometry.output_size()), other_shape(geometry.output_size()));
    py::object c = py::none();
    if (geometry.has_cell_state()) {
        c = initial_state(c_value, "c_0", state_shape(geometry.hidden_size), other_shape(geometry.hidden_size));
    }
    std::vector<std::int64_t> lengths;
    if (!lengths_value.is_none()) lengths = read_lengths(lengths_value, batch, steps);

    const py::object y = new_array(!batched      ? Shape{steps, outputs}
                                   : batch_first ? Shape{batch, steps, outputs}
                                                 : Shape{steps, batch, outputs});
    const auto view = [&](auto* data, std::ptrdiff_t size) {
        return batch_first ? SequenceView<std::remove_pointer_t<decltype(data)>>{data, size, steps * size}
                           : SequenceView<std::remove_pointer_t<decltype(data)>>{data, batch * size, size};
    };
    const StackRun call{steps,
                        batch,
                        view(x.data(), inputs),
                        view(data_of(y), outputs),
                        data_of(h),
                        data_of(h),
                        geometry.has_cell_state() ? data_of(c) : nullptr,
                        lengths_value.is_none() ? nullptr : lengths.data()};
    Workspace workspace;
    const double operations = stack.step_operations() * static_cast<double>(steps) * static_cast<double>(batch);
    if (operations >= kOperationsToReleaseGil) {
        const py::gil_scoped_release release;
        stack.run(call, workspace);
    } else {
        stack.run(call, workspace);
    }
    return py::make_tuple(y, h, c);
}

// One step of a cell: x (I,) or (B, I), states to match. Returns new states.
py::tuple step(const Stack& stack, py::handle x_value, py::handle h_value, py::handle c_value) {
    const Geometry& geometry = stack.geometry();
    const FloatArray x(x_value, "x");
    if ((x.ndim() != 1 && x.ndim() != 2) || x.dim(x.ndim() - 1) != geometry.input_size) {
        const std::string size = std::to_string(geometry.input_size);
        throw_shape_error("x", "(" + size + ",) or (batch, " + size + ")", to_text(x.shape()));
    }
    const bool batched = x.ndim() == 2;
    const std::ptrdiff_t batch = batched ? x.dim(0) : 1;
    const auto state_shape = [&](std::ptrdiff_t size) { return batched ? Shape{batch, size} : Shape{size}; };
    const std::ptrdiff_t outputs = geometry.output_size();
    const py::object h_0 = initial_state(h_value, "h", state_shape(outputs), state_shape(outputs));
    py::object c = py::none();
    if (geometry.has_cell_state()) {
        c = initial_state(c_value, "c", state_shape(geometry.hidden_size), state_shape(geometry.hidden_size));
    }
    const py::object h = new_array(state_shape(outputs));
    const StackRun call{1,
                        batch,
                        {x.data(), 0, geometry.input_size},
                        {data_of(h), 0, outputs},
                        data_of(h_0),
                        data_of(h_0),
                        geometry.has_cell_state() ? data_of(c) : nullptr,
                        nullptr};
    Workspace workspace;
    stack.run(call, workspace);
    return py::make_tuple(h, c);
}

}    // namespace

void bind_stack(py::module_& module) {
    py::class_<Stack, std::shared_ptr<Stack>>(module, "Stack", py::is_final())
        .def(py::init(&make_stack), py::arg("kind"), py::arg("cells"), py::arg("suffixes"),
             py::arg("num_directions") = 1, py::arg("dtype") = "float32", py::arg("isa") = "")
        .def("run", &run, py::arg("x"), py::arg("h_0") = py::none(), py::arg("c_0") = py::none(),
             py::arg("lengths") = py::none(), py::arg("batch_first") = false)
        .def("step", &step, py::arg("x"), py::arg("h") = py::none(), py::arg("c") = py::none())
        .def_property_readonly("input_size", [](const Stack& s) { return s.geometry().input_size; })
        .def_property_readonly("hidden_size", [](const Stack& s) { return s.geometry().hidden_size; })
        .def_property_readonly("proj_size", [](const Stack& s) { return s.geometry().proj_size; })
        .def_property_readonly("num_layers", [](const Stack& s) { return s.geometry().num_layers; })
        .def_property_readonly("num_directions", [](const Stack& s) { return s.geometry().num_directions; })
        .def(
            "astype",
            [](const Stack& s, const std::string& dtype) {
                return std::make_shared<Stack>(s.astype(weight_type_from_name(dtype)));
            },
            py::arg("dtype"))
        .def_property_readonly("dtype", [](const Stack& s) { return weight_type_name(s.type()); })
        .def_property_readonly("nbytes", &Stack::nbytes)
        .def_property_readonly("isa", [](const Stack& s) { return std::string(s.kernels().isa); });
}

}    // namespace fusedcell::bindings
