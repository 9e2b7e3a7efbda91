// Stream: the state of sequences in hand. `step` is the hot call of the whole library.
#include "model/stream.h"

#include <pybind11/stl.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <string>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/fast_method.h"

namespace fusedcell::bindings {
namespace {

class Stream {
public:
    Stream(std::shared_ptr<const Stack> stack, std::ptrdiff_t batch, int num_threads)
        : state_(std::move(stack), batch, num_threads),
          step_operations_(state_.stack().step_operations() * static_cast<double>(batch)) {}
    Stream(const Stream& other) : state_(other.state_), step_operations_(other.step_operations_) {}

    StreamState& state() { return state_; }
    const Geometry& geometry() const { return state_.stack().geometry(); }
    std::ptrdiff_t batch() const { return state_.batch(); }

    /// Multiply-adds of so many steps.
    double operations(std::ptrdiff_t steps) const { return step_operations_ * static_cast<double>(steps); }

    /// A batch of one is unbatched: its shapes have no batch axis.
    Shape rows(std::ptrdiff_t features) const { return batch() == 1 ? Shape{features} : Shape{batch(), features}; }
    Shape h_shape() const { return {geometry().num_layers, batch(), geometry().output_size()}; }
    Shape c_shape() const { return {geometry().num_layers, batch(), geometry().hidden_size}; }

    bool overlaps_state(PyArrayObject* array) {
        const auto rows = static_cast<std::size_t>(geometry().num_layers * batch());
        const std::size_t h_floats = rows * static_cast<std::size_t>(geometry().output_size());
        const std::size_t c_floats = rows * static_cast<std::size_t>(geometry().hidden_size);
        return overlaps(array, state_.h(), h_floats) ||
               (state_.c() != nullptr && overlaps(array, state_.c(), c_floats));
    }

    static std::size_t floats(const Shape& shape) {
        std::size_t size = 1;
        for (const std::ptrdiff_t dim : shape) size *= static_cast<std::size_t>(dim);
        return size;
    }

    // Holds the stream for one call. A second thread that comes while a call runs gets an error, not a mixed state.
    class InUse {
    public:
        explicit InUse(Stream& stream) : stream_(stream) {
            if (stream_.in_use_.exchange(true, std::memory_order_acquire)) {
                throw std::runtime_error("stream: another thread is using it; give each thread a stream of its own");
            }
        }
        ~InUse() { stream_.in_use_.store(false, std::memory_order_release); }
        InUse(const InUse&) = delete;
        InUse& operator=(const InUse&) = delete;

    private:
        Stream& stream_;
    };

private:
    StreamState state_;
    double step_operations_;
    std::atomic<bool> in_use_{false};
};

bool has_shape(PyArrayObject* array, const Stream& stream, std::ptrdiff_t features) {
    const npy_intp* dims = PyArray_DIMS(array);
    if (stream.batch() == 1) return PyArray_NDIM(array) == 1 && dims[0] == features;
    return PyArray_NDIM(array) == 2 && dims[0] == stream.batch() && dims[1] == features;
}

bool is_plain_input(PyObject* x, const Stream& stream) {
    return is_plain_float32(x) && has_shape(reinterpret_cast<PyArrayObject*>(x), stream, stream.geometry().input_size);
}

// An `out` argument is written in place, so it must be exactly right.
float* checked_out(PyObject* out, Stream& stream) {
    if (!PyArray_Check(out)) {
        throw py::type_error(std::string("out: expected a float32 array, got ") + Py_TYPE(out)->tp_name);
    }
    auto* array = reinterpret_cast<PyArrayObject*>(out);
    if (PyArray_TYPE(array) != NPY_FLOAT32) {
        throw py::type_error("out: expected a float32 array, got dtype " +
                             py::str(py::handle(out).attr("dtype")).cast<std::string>());
    }
    if (!PyArray_ISCARRAY(array)) {
        throw py::value_error("out: expected a writeable, aligned, C-contiguous array in native byte order");
    }
    const std::ptrdiff_t outputs = stream.geometry().output_size();
    if (!has_shape(array, stream, outputs)) FloatArray(out, "out").expect_shape(stream.rows(outputs));
    if (stream.overlaps_state(array)) throw py::value_error("out: expected memory of its own, got the stream's state");
    return static_cast<float*>(PyArray_DATA(array));
}

void run_step(Stream& stream, const float* x, float* y) {
    const Stream::InUse in_use(stream);
    if (stream.operations(1) >= kOperationsToReleaseGil) {
        const py::gil_scoped_release release;
        stream.state().step(x, y);
    } else {
        stream.state().step(x, y);
    }
}

py::object step(Stream& stream, PyObject* x, PyObject* out) {
    std::optional<FloatArray> converted;
    if (!is_plain_input(x, stream)) {
        converted.emplace(x, "x");
        converted->expect_shape(stream.rows(stream.geometry().input_size));
    }
    const float* x_data =
        converted ? converted->data() : static_cast<const float*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(x)));
    py::object y = out == nullptr ? new_array(stream.rows(stream.geometry().output_size()))
                                  : py::reinterpret_borrow<py::object>(out);
    run_step(stream, x_data, out == nullptr ? data_of(y) : checked_out(out, stream));
    return y;
}

[[noreturn]] void throw_argument_error(const std::string& what) { throw py::type_error("step(x, out=None): " + what); }

PyObject* step_fastcall(PyObject* self, PyObject* const* args, Py_ssize_t num_positional, PyObject* keywords) {
    try {
        PyObject* values[2] = {nullptr, nullptr};
        if (num_positional > 2) {
            throw_argument_error("expected at most 2 arguments, got " + std::to_string(num_positional));
        }
        for (Py_ssize_t i = 0; i < num_positional; ++i) values[i] = args[i];
        const Py_ssize_t num_keywords = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
        for (Py_ssize_t i = 0; i < num_keywords; ++i) {
            PyObject* name = PyTuple_GET_ITEM(keywords, i);
            const int index = PyUnicode_CompareWithASCIIString(name, "out") == 0 ? 1
                              : PyUnicode_CompareWithASCIIString(name, "x") == 0 ? 0
                                                                                 : -1;
            if (index < 0) throw_argument_error("unexpected argument " + py::repr(name).cast<std::string>());
            if (values[index] != nullptr) {
                throw_argument_error("got two values for " + py::repr(name).cast<std::string>());
            }
            values[index] = args[num_positional + i];
        }
        if (values[0] == nullptr) throw_argument_error("x is missing");
        return step(instance_of<Stream>(self), values[0], values[1] == Py_None ? nullptr : values[1]).release().ptr();
    } catch (...) {
        return set_python_error();
    }
}

PyMethodDef step_definition = {
    "step", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&step_fastcall)), METH_FASTCALL | METH_KEYWORDS,
    "step($self, /, x, out=None)\n--\n\n"
    "One time step.\n\n"
    "x is (input_size,), or (batch_size, input_size) for a stream of more than one row. Returns h, (output_size,) or\n"
    "(batch_size, output_size), in `out` if that is given: a C-contiguous float32 array of that shape. With float32\n"
    "C-contiguous x and with `out`, nothing is allocated. Raises TypeError or ValueError, and leaves the state as it\n"
    "was, if x or out is not as described; RuntimeError if another thread is using the stream."};

// A step whose arrays are known beforehand: the capsule that a function of no arguments is bound to.
struct BoundStep {
    Stream* stream;
    py::object owner, x, out;    // what must live as long as the function
};

constexpr const char* kBoundStepName = "fusedcell.BoundStep";

PyObject* call_bound_step(PyObject* capsule, PyObject*) {
    const auto& bound = *static_cast<BoundStep*>(PyCapsule_GetPointer(capsule, kBoundStepName));
    try {
        // An array can be given another shape, dtype or memory in place.
        if (!is_plain_input(bound.x.ptr(), *bound.stream)) {
            throw py::value_error("x: no longer the array that was bound, but of another shape, dtype or layout");
        }
        const auto* x = static_cast<const float*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(bound.x.ptr())));
        run_step(*bound.stream, x, checked_out(bound.out.ptr(), *bound.stream));
    } catch (...) {
        return set_python_error();
    }
    Py_INCREF(bound.out.ptr());
    return bound.out.ptr();
}

PyMethodDef bound_step_definition = {"bound_step", &call_bound_step, METH_NOARGS,
                                     "One time step from the bound x into the bound out, which it returns."};

py::object bind(const py::object& self, const py::object& x, const py::object& out) {
    auto& stream = self.cast<Stream&>();
    if (!is_plain_float32(x.ptr())) {
        throw py::type_error("x: expected an aligned, C-contiguous float32 array, whose memory can be read in place");
    }
    FloatArray(x, "x").expect_shape(stream.rows(stream.geometry().input_size));
    checked_out(out.ptr(), stream);
    const py::capsule capsule(new BoundStep{&stream, self, x, out}, kBoundStepName, [](PyObject* object) {
        delete static_cast<BoundStep*>(PyCapsule_GetPointer(object, kBoundStepName));
    });
    PyObject* function = PyCFunction_New(&bound_step_definition, capsule.ptr());
    if (function == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(function);
}

py::object process(Stream& stream, py::handle block) {
    FloatArray x(block, "block");
    const std::ptrdiff_t inputs = stream.geometry().input_size;
    const bool unbatched = stream.batch() == 1 && x.ndim() == 2;
    if ((!unbatched && x.ndim() != 3) || x.dim(x.ndim() - 1) != inputs || (!unbatched && x.dim(1) != stream.batch())) {
        const std::string size = std::to_string(inputs);
        const std::string three = "(steps, " + std::to_string(stream.batch()) + ", " + size + ")";
        throw_shape_error("block", stream.batch() == 1 ? "(steps, " + size + ") or " + three : three,
                          to_text(x.shape()));
    }
    if (stream.overlaps_state(x.array())) x.detach();
    const std::ptrdiff_t steps = x.dim(0);
    const std::ptrdiff_t outputs = stream.geometry().output_size();
    const py::object y = new_array(unbatched ? Shape{steps, outputs} : Shape{steps, stream.batch(), outputs});
    const Stream::InUse in_use(stream);
    if (stream.operations(steps) >= kOperationsToReleaseGil) {
        float* y_data = data_of(y);
        const py::gil_scoped_release release;
        stream.state().process(x.data(), y_data, steps);
    } else {
        stream.state().process(x.data(), data_of(y), steps);
    }
    return y;
}

// Row numbers, or one number, or a boolean mask over the batch; every row is checked before the first is reset.
void reset(Stream& stream, py::handle rows) {
    std::vector<std::ptrdiff_t> selected;
    if (rows.is_none()) {
        for (std::ptrdiff_t row = 0; row < stream.batch(); ++row) selected.push_back(row);
    } else {
        const py::module_ numpy = py::module_::import("numpy");
        py::object indices = numpy.attr("asarray")(rows);
        auto* array = reinterpret_cast<PyArrayObject*>(indices.ptr());
        if (PyArray_ISBOOL(array)) {
            if (PyArray_NDIM(array) != 1 || PyArray_DIM(array, 0) != stream.batch()) {
                throw_shape_error("rows", to_text({stream.batch()}) + " for a mask",
                                  to_text({PyArray_DIMS(array), PyArray_DIMS(array) + PyArray_NDIM(array)}));
            }
            indices = numpy.attr("flatnonzero")(indices);
        } else if (!PyArray_ISINTEGER(array) && PyArray_SIZE(array) != 0) {
            throw py::type_error("rows: expected row numbers or a boolean mask, got dtype " +
                                 py::str(indices.attr("dtype")).cast<std::string>());
        }
        for (const py::handle item : numpy.attr("ravel")(indices).attr("tolist")()) {
            const auto row = item.cast<std::ptrdiff_t>();
            if (row < -stream.batch() || row >= stream.batch()) {
                throw py::index_error("rows: expected numbers from 0 to " + std::to_string(stream.batch() - 1) +
                                      ", got " + std::to_string(row));
            }
            selected.push_back(row < 0 ? row + stream.batch() : row);
        }
    }
    const Stream::InUse in_use(stream);
    for (const std::ptrdiff_t row : selected) stream.state().reset_row(row);
}

// A writeable view of the stream's own memory, which keeps the stream alive.
py::object state_view(const py::object& self, float* data, const Shape& shape) {
    std::vector<npy_intp> dims(shape.begin(), shape.end());
    PyObject* view = PyArray_SimpleNewFromData(static_cast<int>(dims.size()), dims.data(), NPY_FLOAT32, data);
    if (view == nullptr) throw py::error_already_set();
    py::object owned = py::reinterpret_steal<py::object>(view);
    if (PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(view), py::object(self).release().ptr()) < 0) {
        throw py::error_already_set();
    }
    return owned;
}

py::object get_state(const py::object& self) {
    auto& stream = self.cast<Stream&>();
    py::object h = state_view(self, stream.state().h(), stream.h_shape());
    if (stream.state().c() == nullptr) return h;
    return py::make_tuple(h, state_view(self, stream.state().c(), stream.c_shape()));
}

// (L, B, size), or (L, size) for a stream of one row.
FloatArray checked_state(const Stream& stream, py::handle value, const char* name, const Shape& shape) {
    FloatArray array(value, name);
    const Shape unbatched{shape[0], shape[2]};
    if (stream.batch() != 1 || array.shape() != unbatched) array.expect_shape(shape);
    return array;
}

void set_state(Stream& stream, const py::object& value) {
    const bool has_c = stream.state().c() != nullptr;
    if (has_c && !((py::isinstance<py::tuple>(value) || py::isinstance<py::list>(value)) && py::len(value) == 2)) {
        throw py::type_error(std::string("state: expected a pair (h, c), got ") + Py_TYPE(value.ptr())->tp_name);
    }
    const FloatArray h =
        checked_state(stream, has_c ? py::object(value[py::int_(0)]) : value, "state h", stream.h_shape());
    std::optional<FloatArray> c;
    if (has_c) c = checked_state(stream, value[py::int_(1)], "state c", stream.c_shape());
    const Stream::InUse in_use(stream);
    std::memmove(stream.state().h(), h.data(), Stream::floats(h.shape()) * sizeof(float));
    if (c) std::memmove(stream.state().c(), c->data(), Stream::floats(c->shape()) * sizeof(float));
}

std::unique_ptr<Stream> make_stream(std::shared_ptr<Stack> stack, std::ptrdiff_t batch_size, std::ptrdiff_t num_threads,
                                    py::handle h_0, py::handle c_0) {
    const int threads = checked_num_threads(num_threads);
    if (batch_size < 1) {
        throw py::value_error("batch_size: expected at least 1, got " + std::to_string(batch_size));
    }
    // Far beyond any memory, and small enough that no size computed from it can overflow.
    constexpr std::ptrdiff_t kMaxBatch = std::ptrdiff_t{1} << 31;
    if (batch_size > kMaxBatch) {
        throw py::value_error("batch_size: expected at most 2**31, got " + std::to_string(batch_size));
    }
    if (stack->geometry().num_directions != 1 || stack->geometry().reverse) {
        throw py::value_error("stack: expected one direction that runs forwards");
    }
    auto stream = std::make_unique<Stream>(std::move(stack), batch_size, threads);
    if (!h_0.is_none()) {
        const FloatArray h = checked_state(*stream, h_0, "h_0", stream->h_shape());
        std::optional<FloatArray> c;
        if (stream->state().c() != nullptr) c = checked_state(*stream, c_0, "c_0", stream->c_shape());
        stream->state().start_from(h.data(), c ? c->data() : nullptr);
    }
    return stream;
}

}    // namespace

void bind_stream(py::module_& module) {
    py::class_<Stream> stream(module, "Stream", py::is_final(),
                              "The state of one sequence, or of a batch of them, on a layer's shared weights.\n\n"
                              "Made by `layer.stream(batch_size)`. Shapes of a stream of one row have no batch axis.");
    stream
        .def(py::init(&make_stream), py::arg("stack"), py::arg("batch_size") = 1, py::arg("num_threads") = 1,
             py::arg("h_0") = py::none(), py::arg("c_0") = py::none())
        .def("process", &process, py::arg("block"),
             "Many time steps: (T, input_size) or (T, batch_size, input_size) in, h of every step out, with the same\n"
             "bits as calling `step` T times.")
        .def(
            "bind", &bind, py::arg("x"), py::arg("out"),
            "A function without arguments that makes one step from x into out and returns out: `step(x, out)` for who\n"
            "fills the same x again and again, in about half the time of the call. x and out are as for `step`, but x\n"
            "is never converted.")
        .def("reset", &reset, py::arg("rows") = py::none(),
             "Sets the state to what it started from: of every row, or of the given row numbers, or where a boolean "
             "mask is true.")
        .def(
            "copy",
            [](Stream& self) {
                const Stream::InUse in_use(self);
                return std::make_unique<Stream>(self);
            },
            "A stream with the same state that goes on independently.")
        .def_property("state", &get_state, &set_state,
                      "h, or (h, c) for an LSTM: writeable views, (num_layers, batch_size, size). Assigning copies.")
        .def_property_readonly("batch_size", &Stream::batch)
        .def_property_readonly("input_size", [](const Stream& s) { return s.geometry().input_size; })
        .def_property_readonly("output_size", [](const Stream& s) { return s.geometry().output_size(); });
    add_method(stream, step_definition);
}

}    // namespace fusedcell::bindings
