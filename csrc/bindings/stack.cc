// Stack: argument checks of whole-sequence and functional calls.
#include "model/stack.h"

#include <pybind11/stl.h>

#include <cstring>
#include <memory>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/weights.h"

namespace fusedcell::bindings {
namespace {

// The memory in which this thread's calls work, one after another, so that few of them allocate. What a large call
// needed is given back.
class ThreadWorkspace {
public:
    ThreadWorkspace() = default;
    ~ThreadWorkspace() {
        constexpr std::size_t kKept = std::size_t{1} << 22;
        if (get().nbytes() > kKept) get() = {};
    }
    ThreadWorkspace(const ThreadWorkspace&) = delete;
    ThreadWorkspace& operator=(const ThreadWorkspace&) = delete;

    static Workspace& get() {
        thread_local Workspace workspace;
        return workspace;
    }
};

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
              bool batch_first, std::ptrdiff_t num_threads) {
    const int threads = checked_num_threads(num_threads);
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
    ThreadWorkspace workspace;
    const double operations = stack.step_operations() * static_cast<double>(steps) * static_cast<double>(batch);
    if (operations >= kOperationsToReleaseGil) {
        const py::gil_scoped_release release;
        stack.run(call, workspace.get(), threads);
    } else {
        stack.run(call, workspace.get(), threads);
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
    ThreadWorkspace workspace;
    stack.run(call, workspace.get());
    return py::make_tuple(h, c);
}

}    // namespace

void bind_stack(py::module_& module) {
    py::class_<Stack, std::shared_ptr<Stack>>(module, "Stack", py::is_final())
        .def(py::init(&make_stack), py::arg("kind"), py::arg("cells"), py::arg("suffixes"),
             py::arg("num_directions") = 1, py::arg("dtype") = "float32", py::arg("isa") = "",
             py::arg("input_scales") = py::tuple(), py::arg("options") = py::tuple(), py::arg("reverse") = false)
        .def("run", &run, py::arg("x"), py::arg("h_0") = py::none(), py::arg("c_0") = py::none(),
             py::arg("lengths") = py::none(), py::arg("batch_first") = false, py::arg("num_threads") = 1)
        .def("step", &step, py::arg("x"), py::arg("h") = py::none(), py::arg("c") = py::none())
        .def_property_readonly("input_size", [](const Stack& s) { return s.geometry().input_size; })
        .def_property_readonly("hidden_size", [](const Stack& s) { return s.geometry().hidden_size; })
        .def_property_readonly("proj_size", [](const Stack& s) { return s.geometry().proj_size; })
        .def_property_readonly("num_layers", [](const Stack& s) { return s.geometry().num_layers; })
        .def_property_readonly("num_directions", [](const Stack& s) { return s.geometry().num_directions; })
        .def(
            "astype",
            [](const Stack& s, const std::string& dtype, const std::vector<double>& input_scales) {
                const WeightType type = weight_type_from_name(dtype);
                return std::make_shared<Stack>(
                    s.astype(type, checked_input_scales(input_scales, s.geometry().num_layers, type)));
            },
            py::arg("dtype"), py::arg("input_scales") = py::tuple())
        .def("arrays", &arrays_of)
        .def_property_readonly("kind", [](const Stack& s) { return kind_name(s.geometry().kind); })
        .def_property_readonly("options", &options_of)
        .def_property_readonly("has_peepholes", [](const Stack& s) { return s.options(0).peephole != nullptr; })
        .def_property_readonly("reverse", [](const Stack& s) { return s.geometry().reverse; })
        .def_property_readonly("input_scales", &Stack::input_scales)
        .def_property_readonly("dtype", [](const Stack& s) { return weight_type_name(s.type()); })
        .def_property_readonly("nbytes", &Stack::nbytes)
        .def_property_readonly("isa", [](const Stack& s) { return std::string(s.kernels().isa); });
}

}    // namespace fusedcell::bindings
