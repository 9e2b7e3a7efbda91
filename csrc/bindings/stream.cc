// Stream: the state of sequences in hand. `step` is the hot call of the whole library.
#include "bindings/stream.h"

#include <memory>
#include <optional>
#include <string>

#include "bindings/arguments.h"
#include "bindings/bindings.h"
#include "bindings/fast_method.h"
#include "bindings/gil.h"
#include "bindings/long_call.h"

namespace fusedcell::bindings {
namespace {

bool is_plain_input(PyObject* x, const Stream& stream) {
    return is_plain_float32(x) && stream.x_shape().is_of(reinterpret_cast<PyArrayObject*>(x));
}

float* checked_out(PyObject* out, Stream& stream) {
    float* data = checked_out(out, stream.y_shape());
    check_apart(reinterpret_cast<PyArrayObject*>(out), stream.states());
    return data;
}

void run_step(Stream& stream, const float* x, float* y) {
    const Stream::InUse in_use(stream);
    if (stream.operations(1) >= kOperationsToReleaseGil) {
        const GilRelease release;
        stream.state().step(x, y);
    } else {
        stream.state().step(x, y);
    }
}

py::object step(Stream& stream, PyObject* x, PyObject* out) {
    std::optional<FloatArray> converted;
    if (!is_plain_input(x, stream) || overlaps(reinterpret_cast<PyArrayObject*>(x), stream.states())) {
        converted.emplace(x, "x");
        converted->expect_shape(stream.x_shape().dims());
        if (overlaps(converted->array(), stream.states())) converted->detach();
    }
    const float* x_data =
        converted ? converted->data() : static_cast<const float*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(x)));
    py::object y = out == nullptr ? new_array(stream.y_shape().dims()) : py::reinterpret_borrow<py::object>(out);
    run_step(stream, x_data, out == nullptr ? data_of(y) : checked_out(out, stream));
    return y;
}

constexpr Signature kStep{"step(x, out=None)", {"x", "out"}, 1};

py::object call_step(py::handle self, const Arguments& values) {
    return step(instance_of<Stream>(self.ptr()), values[0], values[1] == Py_None ? nullptr : values[1]);
}

PyMethodDef step_definition = fast_method<kStep, &call_step>(
    "step",
    "step($self, /, x, out=None)\n--\n\n"
    "One time step.\n\n"
    "x is (input_size,), or (batch_size, input_size) for a stream of more than one row. Returns h, (output_size,) or\n"
    "(batch_size, output_size), in `out` if that is given: a C-contiguous float32 array of that shape. With float32\n"
    "C-contiguous x and with `out`, nothing is allocated. Raises TypeError or ValueError, and leaves the state as it\n"
    "was, if x or out is not as described; RuntimeError if another thread is using the stream.");

// A bound x is never copied, and a step changes the state while it still reads x.
void check_x_apart(const py::object& x, Stream& stream) {
    if (overlaps(reinterpret_cast<PyArrayObject*>(x.ptr()), stream.states())) {
        throw py::value_error("x: expected memory of its own, got the stream's state");
    }
}

// A step whose arrays are known beforehand: what a function of no arguments is bound to.
struct BoundStep {
    Stream* stream;
    py::object owner, x, out;    // what must live as long as the function
};

// An array of a class of its own may hold the function, so the garbage collector has to see through it. Such an array
// is where the collector then cuts the cycle; a step that has its arrays has them to its end.
void let_collector_see(PyHeapTypeObject* heap_type) {
    PyTypeObject& type = heap_type->ht_type;
    type.tp_flags |= Py_TPFLAGS_HAVE_GC;
    type.tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
        Py_VISIT(Py_TYPE(self));
        const auto* bound =
            static_cast<BoundStep*>(reinterpret_cast<py::detail::instance*>(self)->simple_value_holder[0]);
        if (bound == nullptr) return 0;
        for (const py::object* object : {&bound->owner, &bound->x, &bound->out}) Py_VISIT(object->ptr());
        return 0;
    };
}

PyObject* call_bound_step(PyObject* self, PyObject*) {
    try {
        const BoundStep& bound = instance_of<BoundStep>(self);
        // An array can be given another shape, dtype or memory in place.
        if (!is_plain_input(bound.x.ptr(), *bound.stream)) {
            throw py::value_error("x: no longer the array that was bound, but of another shape, dtype or layout");
        }
        check_x_apart(bound.x, *bound.stream);
        const auto* x = static_cast<const float*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(bound.x.ptr())));
        run_step(*bound.stream, x, checked_out(bound.out.ptr(), *bound.stream));
        return bound.out.inc_ref().ptr();
    } catch (const std::exception&) {
        return set_python_error();
    }
}

PyMethodDef bound_step_definition = {"bound_step", &call_bound_step, METH_NOARGS,
                                     "One time step from the bound x into the bound out, which it returns."};

constexpr Signature kBind{"bind(x, out)", {"x", "out"}, 2};

py::object bind(py::handle self, const Arguments& values) {
    auto& stream = instance_of<Stream>(self.ptr());
    const auto x = py::reinterpret_borrow<py::object>(values[0]);
    const auto out = py::reinterpret_borrow<py::object>(values[1]);
    if (!is_plain_float32(x.ptr())) {
        throw py::type_error("x: expected an aligned, C-contiguous float32 array, whose memory can be read in place");
    }
    FloatArray(x, "x").expect_shape(stream.x_shape().dims());
    check_x_apart(x, stream);
    checked_out(out.ptr(), stream);
    const py::object bound =
        py::cast(std::make_unique<BoundStep>(BoundStep{&stream, py::reinterpret_borrow<py::object>(self), x, out}));
    PyObject* function = PyCFunction_New(&bound_step_definition, bound.ptr());
    if (function == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(function);
}

PyMethodDef bind_definition = fast_method<kBind, &bind>(
    "bind",
    "bind($self, /, x, out)\n--\n\n"
    "A function without arguments that makes one step from x into out and returns out: `step(x, out)` for who\n"
    "fills the same x again and again, at about the cost of that call. x and out are as for `step`, but x is\n"
    "never converted.");

constexpr Signature kProcess{"process(block)", {"block"}, 1};

py::object process(py::handle self, const Arguments& values) {
    auto& stream = instance_of<Stream>(self.ptr());
    FloatArray x(values[0], "block");
    const std::ptrdiff_t inputs = stream.shape().input_size;
    const std::ptrdiff_t batch = stream.batch();
    const bool batch_first = stream.batch_first();
    const bool unbatched = batch == 1 && x.ndim() == 2;
    if ((!unbatched && x.ndim() != 3) || x.dim(x.ndim() - 1) != inputs ||
        (!unbatched && x.dim(batch_first ? 0 : 1) != batch)) {
        const std::string size = std::to_string(inputs);
        const std::string rows = std::to_string(batch);
        const std::string three = "(" + (batch_first ? rows + ", steps" : "steps, " + rows) + ", " + size + ")";
        std::vector<Shape> fitting{batch_first ? Shape{batch, -1, inputs} : Shape{-1, batch, inputs}};
        if (batch == 1) fitting.push_back({-1, inputs});
        throw_shape_error("block", batch == 1 ? "(steps, " + size + ") or " + three : three,
                          to_text(x.shape()) + transposing(x.shape(), fitting));
    }
    if (overlaps(x.array(), stream.states())) x.detach();
    const std::ptrdiff_t steps = x.dim(batch_first && !unbatched ? 1 : 0);
    const std::ptrdiff_t outputs = stream.shape().output_size;
    Shape y_shape = x.shape();
    y_shape.back() = outputs;
    const py::object y = new_array(y_shape);
    const auto x_view = sequence_view(x.data(), steps, batch, inputs, batch_first);
    const auto y_view = sequence_view(data_of(y), steps, batch, outputs, batch_first);
    const Stream::InUse in_use(stream);
    run_for(stream.operations(steps),
            [&](Checkpoint* checkpoint) { stream.state().process(x_view, y_view, steps, checkpoint); });
    return y;
}

PyMethodDef process_definition = fast_method<kProcess, &process>(
    "process",
    "process($self, /, block)\n--\n\n"
    "Many time steps: (T, batch_size, input_size) in, or (batch_size, T, input_size) for a stream of a layer\n"
    "with batch_first, or (T, input_size) for one row; h of every step out, in the same arrangement, with the\n"
    "bits of calling `step` T times. If a signal handler raises meanwhile, as Ctrl-C does, so does the call,\n"
    "within some 0.1 s and with the state as it was.");

std::unique_ptr<Stream> make_stream(const py::object& owner, py::handle batch_size, py::handle num_threads,
                                    bool batch_first, py::handle h_0, py::handle c_0) {
    if (!py::isinstance<Node>(owner)) {
        throw py::type_error(
            "Stream: made by layer.stream(batch_size), layer.stream_from_bytes(data) or stream.copy()");
    }
    auto node = owner.cast<std::shared_ptr<Node>>();
    const int threads = read_num_threads(num_threads);
    const std::ptrdiff_t batch = read_batch(*node, batch_size, "batch_size");
    auto stream = std::make_unique<Stream>(owner, std::move(node), batch, threads, batch_first);
    start_from(stream->shape(), stream->states(), h_0, c_0);
    return stream;
}

std::unique_ptr<Stream> copy_of(Stream& stream) {
    const Stream::InUse in_use(stream);
    return std::make_unique<Stream>(stream);
}

constexpr Signature kCopy{"copy()", {}, 0};

py::object copy(py::handle self, const Arguments&) { return py::cast(copy_of(instance_of<Stream>(self.ptr()))); }

PyMethodDef copy_definition =
    fast_method<kCopy, &copy>("copy", "copy($self, /)\n--\n\nA stream with the same state that goes on independently.");

}    // namespace

void bind_stream(py::module_& module) {
    refuse_pickling(
        py::class_<BoundStep>(module, "_BoundStep", py::is_final(), py::custom_type_setup(&let_collector_see)));
    py::class_<Stream> stream(module, "Stream", py::is_final(),
                              "The state of one sequence, or of a batch of them, on a layer's shared weights.\n\n"
                              "Made by `layer.stream(batch_size)`. Shapes of a stream of one row have no batch axis.");
    {
        py::options options;
        options.disable_function_signatures();    // which would be for users
        stream
            .def(py::init(&make_stream), py::arg("stack") = py::none(), py::arg("batch_size") = 1,
                 py::arg("num_threads") = 1, py::arg("batch_first") = false, py::arg("h_0") = py::none(),
                 py::arg("c_0") = py::none())
            .def("__copy__", &copy_of)
            .def("__deepcopy__", [](Stream& self, py::handle) { return copy_of(self); })
            .def("__reduce__",
                 [](py::handle) {
                     throw py::type_error(
                         "cannot pickle a Stream; send stream.to_bytes(), which layer.stream_from_bytes(data) takes");
                 })
            .def("__repr__", [](py::handle self) {
                instance_of<Stream>(self.ptr());    // or Python would look at what is not there
                return py::module_::import("fusedcell.layers").attr("stream_text")(self);
            });
    }
    stream.def_property_readonly("batch_size", &Stream::batch, "Rows that step together.")
        .def_property_readonly("batch_first", &Stream::batch_first,
                               "Whether blocks are (batch_size, T, ...), as the layer's x is, rather than\n"
                               "(T, batch_size, ...).")
        .def_property_readonly(
            "input_size", [](const Stream& s) { return s.shape().input_size; }, "Features of x.")
        .def_property_readonly(
            "output_size", [](const Stream& s) { return s.shape().output_size; }, "Size of what `step` returns.");
    bind_states(stream);
    for (PyMethodDef* method : {&step_definition, &process_definition, &bind_definition, &copy_definition}) {
        add_method(stream, *method);
    }
}

}    // namespace fusedcell::bindings
