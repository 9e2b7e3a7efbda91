// Stack: argument checks of whole-sequence and functional calls.
#include "model/stack.h"

#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <optional>

#include "bindings/arguments.h"
#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/fast_method.h"
#include "bindings/gil.h"
#include "bindings/long_call.h"
#include "bindings/thread_workspace.h"
#include "bindings/weights.h"
#include "model/checked_stack.h"
#include "model/names.h"

namespace fusedcell::bindings {
namespace {

// Copies a given state into a new array of shape `shape`, or makes zeros. `also` is another accepted shape.
py::object initial_state(py::handle value, const char* name, const Shape& shape, const Shape& also) {
    py::object state = new_array(shape);
    std::size_t size = 1;
    for (const std::ptrdiff_t dim : shape) size *= static_cast<std::size_t>(dim);
    if (value.is_none()) {
        std::memset(data_of(state), 0, size * sizeof(float));
        return state;
    }
    const FloatArray given(value, name, "; the argument is the state, and lengths and masks are given by name");
    if (given.shape() != shape && given.shape() != also) throw_state_error(name, shape, given.shape(), value);
    std::memcpy(data_of(state), given.data(), size * sizeof(float));
    return state;
}

void run_stoppable(const Stack& stack, const NodeRun& call, int num_threads) {
    ThreadWorkspace workspace;
    run_for(stack.step_operations() * call.rows(), [&](Checkpoint* checkpoint) {
        NodeRun stoppable = call;
        stoppable.checkpoint = checkpoint;
        stack.run(stoppable, workspace.get(), num_threads);
    });
}

// Whole sequences. x is (T, B, I), (B, T, I) with batch_first, or (T, I); the mask is of that shape without I. Returns
// y, h_n, c_n, every c and every gate, None for what there is not or was not asked for. Cells are (L * D, T, B, H) and
// gates (L * D, T, B, G, H), with T and B as in x.
py::tuple run(const Stack& stack, py::handle x_value, py::handle h_value, py::handle c_value, py::handle lengths_value,
              py::handle mask_value, bool batch_first, py::handle num_threads, py::handle return_cells_value,
              py::handle return_gates_value) {
    const int threads = read_num_threads(num_threads);
    const bool return_cells = read_flag(return_cells_value, "return_cells");
    const bool return_gates = read_flag(return_gates_value, "return_gates");
    const Geometry& geometry = stack.geometry();
    const FloatArray x(x_value, "x");
    if ((x.ndim() != 2 && x.ndim() != 3) || x.dim(x.ndim() - 1) != geometry.input_size) {
        const std::string size = std::to_string(geometry.input_size);
        throw_shape_error(
            "x", (batch_first ? "(batch, steps, " : "(steps, batch, ") + size + ") or (steps, " + size + ")",
            to_text(x.shape()) + transposing(x.shape(), {{-1, -1, geometry.input_size}, {-1, geometry.input_size}}));
    }
    const std::ptrdiff_t x_size = x.size();
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

    const Shape rows = !batched ? Shape{steps} : batch_first ? Shape{batch, steps} : Shape{steps, batch};
    const auto shape_of = [&rows](Shape before, const Shape& after) {
        before.insert(before.end(), rows.begin(), rows.end());
        before.insert(before.end(), after.begin(), after.end());
        return before;
    };
    std::unique_ptr<bool[]> mask;
    if (!mask_value.is_none()) mask = read_mask(mask_value, rows);
    x.expect_unchanged(x_size);

    const py::object y = new_array(shape_of({}, {outputs}));
    const std::ptrdiff_t hidden = geometry.hidden_size;
    py::object cells = py::none();
    py::object gates = py::none();
    if (return_cells) cells = new_zeros(shape_of({states}, {hidden}));
    if (return_gates) gates = new_zeros(shape_of({states}, {gates_of(geometry.kind), hidden}));
    const auto view = [&](auto* data, std::ptrdiff_t size) {
        return sequence_view(data, steps, batch, size, batch_first);
    };
    const NodeRun call{steps,
                       batch,
                       view(x.data(), inputs),
                       view(data_of(y), outputs),
                       {data_of(h), data_of(h), geometry.has_cell_state() ? data_of(c) : nullptr},
                       lengths_value.is_none() ? nullptr : lengths.data(),
                       view(static_cast<const bool*>(mask.get()), 1),
                       {return_cells ? data_of(cells) : nullptr, return_gates ? data_of(gates) : nullptr,
                        batch_first ? 1 : batch, batch_first ? steps : 1},
                       return_cells || return_gates ? steps * batch : 0};
    run_stoppable(stack, call, threads);
    return py::make_tuple(y, h, c, cells, gates);
}

// Sequences as PyTorch packs them, the longest first: x (N, I) has the rows of each step, batch_sizes[step] of them,
// after those of the step before. Returns y, which is packed alike, h_n and c_n, with the rows of states in that order
// too.
py::tuple run_packed(const Stack& stack, py::handle x_value, py::handle batch_sizes_value, py::handle h_value,
                     py::handle c_value, py::handle num_threads) {
    const int threads = read_num_threads(num_threads);
    const Geometry& geometry = stack.geometry();
    const FloatArray x(x_value, "x");
    if (x.ndim() != 2 || x.dim(1) != geometry.input_size) {
        throw_shape_error("x", "(rows, " + std::to_string(geometry.input_size) + ")", to_text(x.shape()));
    }
    const std::ptrdiff_t x_size = x.size();
    const std::vector<std::int64_t> batch_sizes = read_batch_sizes(batch_sizes_value, x.dim(0));
    const auto steps = static_cast<std::ptrdiff_t>(batch_sizes.size());
    const auto batch = static_cast<std::ptrdiff_t>(batch_sizes.front());
    const std::ptrdiff_t states = geometry.num_layers * geometry.num_directions;
    const Shape h_shape{states, batch, geometry.output_size()};
    const py::object h = initial_state(h_value, "h_0", h_shape, h_shape);
    py::object c = py::none();
    if (geometry.has_cell_state()) {
        const Shape c_shape{states, batch, geometry.hidden_size};
        c = initial_state(c_value, "c_0", c_shape, c_shape);
    }
    x.expect_unchanged(x_size);

    std::vector<std::ptrdiff_t> offsets{0};
    std::vector<std::int64_t> lengths(static_cast<std::size_t>(batch), steps);
    std::size_t still = lengths.size();    // have not ended before the step
    for (std::size_t step = 0; step < batch_sizes.size(); ++step) {
        offsets.push_back(offsets.back() + static_cast<std::ptrdiff_t>(batch_sizes[step]));
        while (still > static_cast<std::size_t>(batch_sizes[step])) lengths[--still] = static_cast<std::int64_t>(step);
    }
    const std::ptrdiff_t inputs = geometry.input_size;
    const std::ptrdiff_t outputs = geometry.num_directions * geometry.output_size();
    const py::object y = new_array({x.dim(0), outputs});
    const bool are_equal = batch_sizes.back() == batch_sizes.front();    // then that is a plain array, rows and all
    const auto view = [&](auto* data, std::ptrdiff_t size) {
        return SequenceView<std::remove_pointer_t<decltype(data)>>{data, batch * size, size,
                                                                   are_equal ? nullptr : offsets.data()};
    };
    run_stoppable(stack,
                  {steps,
                   batch,
                   view(x.data(), inputs),
                   view(data_of(y), outputs),
                   {data_of(h), data_of(h), geometry.has_cell_state() ? data_of(c) : nullptr},
                   are_equal ? nullptr : lengths.data()},
                  threads);
    return py::make_tuple(y, h, c);
}

// A state that a step starts from, of the shape of x but for its last dimension, `size`; null for zeros.
std::optional<FloatArray> step_state(PyObject* value, const char* name, const FloatArray& x, std::ptrdiff_t size) {
    if (value == Py_None) return std::nullopt;
    FloatArray state(value, name);
    const int last = x.ndim() - 1;
    if (state.ndim() != x.ndim() || state.dim(last) != size || (last == 1 && state.dim(0) != x.dim(0))) {
        throw_state_error(name, last == 1 ? Shape{x.dim(0), size} : Shape{size}, state.shape(), value);
    }
    return state;
}

void copy_state(const std::optional<FloatArray>& state, std::ptrdiff_t size, float* destination) {
    const std::size_t bytes = static_cast<std::size_t>(size) * sizeof(float);
    if (state) {
        std::memcpy(destination, state->data(), bytes);
    } else {
        std::memset(destination, 0, bytes);
    }
}

py::object new_step_array(const FloatArray& x, std::ptrdiff_t size) {
    npy_intp dims[2] = {x.dim(0), size};
    if (x.ndim() == 1) dims[0] = size;
    PyObject* array = PyArray_SimpleNew(x.ndim(), dims, NPY_FLOAT32);
    if (array == nullptr) throw_array_error(dims, x.ndim());
    return py::reinterpret_steal<py::object>(array);
}

// One step of a cell: x (I,) or (B, I), states to match. Returns new states.
PyObject* step(const Stack& stack, PyObject* x_value, PyObject* h_value, PyObject* c_value) {
    const Geometry& geometry = stack.geometry();
    const FloatArray x(x_value, "x");
    if ((x.ndim() != 1 && x.ndim() != 2) || x.dim(x.ndim() - 1) != geometry.input_size) {
        const std::string size = std::to_string(geometry.input_size);
        throw_shape_error("x", "(" + size + ",) or (batch, " + size + ")",
                          to_text(x.shape()) + transposing(x.shape(), {{-1, geometry.input_size}}));
    }
    const std::ptrdiff_t x_size = x.size();
    const std::ptrdiff_t batch = x.ndim() == 2 ? x.dim(0) : 1;
    const std::ptrdiff_t outputs = geometry.output_size();
    const std::optional<FloatArray> given_h = step_state(h_value, "h", x, outputs);
    std::optional<FloatArray> given_c;
    if (geometry.has_cell_state()) given_c = step_state(c_value, "c", x, geometry.hidden_size);
    x.expect_unchanged(x_size);
    if (given_h) given_h->expect_unchanged(batch * outputs);
    py::object c = py::none();
    if (geometry.has_cell_state()) {
        c = new_step_array(x, geometry.hidden_size);
        copy_state(given_c, batch * geometry.hidden_size, data_of(c));
    }
    const py::object h = new_step_array(x, outputs);
    // Reading an argument may run any code, other steps on this thread too, so their memory is taken after that.
    ThreadWorkspace workspace;
    std::vector<float>& h_0 = workspace.state();
    h_0.resize(static_cast<std::size_t>(batch * outputs));
    copy_state(given_h, batch * outputs, h_0.data());
    const NodeRun call{1,
                       batch,
                       {x.data(), 0, geometry.input_size},
                       {data_of(h), 0, outputs},
                       {h_0.data(), h_0.data(), geometry.has_cell_state() ? data_of(c) : nullptr},
                       nullptr};
    if (stack.step_operations() * static_cast<double>(batch) >= kOperationsToReleaseGil) {
        const GilRelease release;
        stack.run(call, workspace.get());
    } else {
        stack.run(call, workspace.get());
    }
    PyObject* states = PyTuple_Pack(2, h.ptr(), c.ptr());
    if (states == nullptr) throw py::error_already_set();
    return states;
}

PyObject* step_fastcall(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    try {
        if (count < 1 || count > 3) {
            throw py::type_error("step(x, h=None, c=None): expected 1 to 3 arguments, got " + std::to_string(count));
        }
        return step(instance_of<Stack>(self), args[0], count > 1 ? args[1] : Py_None, count > 2 ? args[2] : Py_None);
    } catch (const std::exception&) {
        return set_python_error();
    }
}

PyMethodDef cell_step_definition = {
    "step", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&step_fastcall)), METH_FASTCALL,
    "step($self, x, h=None, c=None, /)\n--\n\nOne step of a cell: h and c after it, None where there is no c."};

}    // namespace

void bind_stack(py::module_& module) {
    module.def(
        "expect_finite",
        [](const std::string& name, py::handle value) {
            const FloatArray array(value, name);
            NamedArray{name, array.data(), array.shape()}.expect_finite();
        },
        py::arg("name"), py::arg("array"));
    module.def("checked_num_threads", &read_num_threads, py::arg("num_threads"));
    module.def(
        "nearest_float32",
        [](py::handle values) {
            return py::reinterpret_borrow<py::object>(
                reinterpret_cast<PyObject*>(FloatArray(values, "values").array()));
        },
        py::arg("values"));
    const py::class_<Node, std::shared_ptr<Node>> node(
        module, "Node", "Rows in, rows out and a state between steps: what streams and pools run.");
    refuse_pickling(node);
    py::class_<Stack, Node, std::shared_ptr<Stack>> stack(module, "Stack", py::is_final());
    stack
        .def(py::init(&make_stack), py::arg("kind"), py::arg("cells"), py::arg("suffixes"),
             py::arg("num_directions") = 1, py::arg("dtype") = "float32", py::arg("isa") = "",
             py::arg("input_scales") = py::tuple(), py::arg("options") = py::tuple(), py::arg("reverse") = false)
        .def("run", &run, py::arg("x"), py::arg("h_0") = py::none(), py::arg("c_0") = py::none(),
             py::arg("lengths") = py::none(), py::arg("mask") = py::none(), py::arg("batch_first") = false,
             py::arg("num_threads") = 1, py::arg("return_cells") = false, py::arg("return_gates") = false)
        .def("run_packed", &run_packed, py::arg("x"), py::arg("batch_sizes"), py::arg("h_0") = py::none(),
             py::arg("c_0") = py::none(), py::arg("num_threads") = 1)
        .def_property_readonly("input_size", [](const Stack& s) { return s.geometry().input_size; })
        .def_property_readonly("hidden_size", [](const Stack& s) { return s.geometry().hidden_size; })
        .def_property_readonly("proj_size", [](const Stack& s) { return s.geometry().proj_size; })
        .def_property_readonly("num_layers", [](const Stack& s) { return s.geometry().num_layers; })
        .def_property_readonly("num_directions", [](const Stack& s) { return s.geometry().num_directions; })
        .def(
            "astype",
            [](const Stack& s, const DtypeArgument& dtype, py::handle input_scales,
               const std::vector<std::string>& suffixes) {
                return checked_astype(s, to_types(dtype, s.num_cells()), read_floats(input_scales, "input_scales"),
                                      suffixes);
            },
            py::arg("dtype"), py::arg("input_scales"), py::arg("suffixes"))
        .def("arrays", &arrays_of)
        .def_property_readonly("kind", [](const Stack& s) { return std::string(name_of(s.geometry().kind)); })
        .def_property_readonly("options", &options_of)
        .def_property_readonly("has_peepholes", [](const Stack& s) { return s.options(0).peephole != nullptr; })
        .def_property_readonly("reverse", [](const Stack& s) { return s.geometry().reverse; })
        .def_property_readonly("has_streams", [](const Stack& s) { return s.shape().has_streams; })
        .def_property_readonly("input_scales", &Stack::input_scales)
        .def_property_readonly("dtypes", &dtypes_of)
        .def_property_readonly("densities", &densities_of)
        .def_property_readonly("nbytes", &Stack::nbytes)
        .def_property_readonly("matrix_nbytes", &Stack::matrix_nbytes)
        .def_property_readonly("isa", [](const Stack& s) { return std::string(s.kernels().isa); });
    add_method(stack, cell_step_definition);
    refuse_pickling(stack);
}

}    // namespace fusedcell::bindings
