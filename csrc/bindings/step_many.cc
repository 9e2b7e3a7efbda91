// One step of many streams in one call. It is as hot as Stream.step, so the streams' objects are looked at in place.
#include <optional>

#include "bindings/arguments.h"
#include "bindings/bindings.h"
#include "bindings/fast_method.h"
#include "bindings/gil.h"
#include "bindings/stream.h"
#include "bindings/thread_workspace.h"
#include "pack/sizes.h"

namespace fusedcell::bindings {
namespace {

Stream& stream_at(const py::tuple& streams, Py_ssize_t index) {
    return instance_of<Stream>(PyTuple_GET_ITEM(streams.ptr(), index));
}

// A tuple keeps the streams alive, and is what it is whatever other threads do to the caller's list.
py::tuple checked_streams(py::handle value, const Node& node) {
    if (!PySequence_Check(value.ptr()) && Py_TYPE(value.ptr())->tp_iter == nullptr) {
        throw py::type_error(std::string("streams: expected a sequence of streams, got ") +
                             Py_TYPE(value.ptr())->tp_name);
    }
    auto streams = py::reinterpret_steal<py::tuple>(call_python([&] { return PySequence_Tuple(value.ptr()); }));
    if (!streams) throw py::error_already_set();
    const auto* type = reinterpret_cast<PyTypeObject*>(py::type::handle_of<Stream>().ptr());
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(streams.ptr()); ++i) {
        PyObject* item = PyTuple_GET_ITEM(streams.ptr(), i);
        if (Py_TYPE(item) != type) {
            throw py::type_error("streams: expected a Stream at index " + std::to_string(i) + ", got " +
                                 Py_TYPE(item)->tp_name);
        }
        if (&instance_of<Stream>(item).node() != &node) {
            throw py::value_error(
                "streams: expected streams of this layer, whose weights they share; the one at index " +
                std::to_string(i) + " is of another");
        }
    }
    return streams;
}

// Holds all the streams for one call, or none.
class StreamsInUse {
public:
    /// Appends where their rows lie to `rows`, which has room for them.
    StreamsInUse(const py::tuple& streams, std::vector<RowState>& rows) : streams_(streams) {
        const Py_ssize_t size = PyTuple_GET_SIZE(streams.ptr());
        for (; taken_ < size; ++taken_) {
            Stream& stream = stream_at(streams_, taken_);
            if (!stream.turn().take()) {
                const Py_ssize_t index = taken_;
                give_back();
                throw_in_use(index);
            }
            for (std::ptrdiff_t row = 0; row < stream.batch(); ++row) rows.push_back(stream.states().row(row));
        }
    }
    ~StreamsInUse() { give_back(); }
    StreamsInUse(const StreamsInUse&) = delete;
    StreamsInUse& operator=(const StreamsInUse&) = delete;

private:
    [[noreturn]] void throw_in_use(Py_ssize_t index) const {
        for (Py_ssize_t i = 0; i < index; ++i) {
            if (&stream_at(streams_, i) == &stream_at(streams_, index)) {
                throw py::value_error("streams: expected each stream once; the one at index " + std::to_string(i) +
                                      " is also at index " + std::to_string(index));
            }
        }
        throw std::runtime_error("streams: another thread is using the one at index " + std::to_string(index) +
                                 "; no stream has been changed");
    }
    void give_back() {
        while (taken_ > 0) stream_at(streams_, --taken_).turn().give_back();
    }

    const py::tuple& streams_;
    Py_ssize_t taken_ = 0;
};

py::object step_many(const Node& node, py::handle stream_values, py::handle x_value, const py::object& out,
                     py::handle num_threads) {
    const int threads = read_num_threads(num_threads);
    const py::tuple streams = checked_streams(stream_values, node);
    const Py_ssize_t size = PyTuple_GET_SIZE(streams.ptr());
    std::ptrdiff_t batch = 0;
    for (Py_ssize_t i = 0; i < size; ++i) batch = sum_of(batch, stream_at(streams, i).batch());
    FloatArray x(x_value, "X");
    x.expect_shape({batch, node.shape().input_size});
    const RowsShape y_shape{true, batch, node.shape().output_size};
    py::object y = out.is_none() ? new_array(y_shape.dims()) : out;
    float* y_data = checked_out(y.ptr(), y_shape);
    auto* y_array = reinterpret_cast<PyArrayObject*>(y.ptr());
    bool x_is_apart = !overlaps(x.array(), y_data, y_shape.floats());
    for (Py_ssize_t i = 0; i < size; ++i) {
        States& states = stream_at(streams, i).states();
        check_apart(y_array, states);
        x_is_apart = x_is_apart && !overlaps(x.array(), states);
    }
    if (!x_is_apart) x.detach();

    ThreadWorkspace workspace;
    std::vector<RowState>& rows = workspace.rows();
    rows.clear();
    rows.reserve(count_of<RowState>(batch));
    const StreamsInUse in_use(streams, rows);
    const double operations = node.step_operations() * static_cast<double>(batch);
    std::optional<GilRelease> release;
    if (operations >= kOperationsToReleaseGil) release.emplace();
    node.step_rows(x.data(), y_data, rows.data(), batch, workspace.get(), threads);
    return y;
}

}    // namespace

void bind_step_many(py::module_& module) {
    module.def("step_many", &step_many, py::arg("stack"), py::arg("streams"), py::arg("x"), py::arg("out") = py::none(),
               py::arg("num_threads") = 1);
}

}    // namespace fusedcell::bindings
