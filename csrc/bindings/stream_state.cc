// States of streams: reading, setting, resetting and judging them, and the argument checks of all calls of streams.
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>

#include "bindings/arguments.h"
#include "bindings/fast_method.h"
#include "bindings/gil.h"
#include "bindings/stream.h"
#include "pack/sizes.h"

namespace fusedcell::bindings {
namespace {

// Appends the numbers of a list or tuple of plain ints, or of an array of NumPy's own ints, and says whether it is one.
bool read_plain_rows(py::handle value, std::vector<std::ptrdiff_t>& rows) {
    PyObject* object = value.ptr();
    if (PyArray_Check(object)) {
        auto* array = reinterpret_cast<PyArrayObject*>(object);
        if (PyArray_TYPE(array) != NPY_INTP || PyArray_NDIM(array) != 1 || !PyArray_ISCARRAY_RO(array)) return false;
        const auto* data = static_cast<const npy_intp*>(PyArray_DATA(array));
        rows.assign(data, data + PyArray_DIM(array, 0));
        return true;
    }
    if (!PyList_CheckExact(object) && !PyTuple_CheckExact(object)) return false;
    const auto items = py::reinterpret_steal<py::tuple>(PySequence_Tuple(object));
    if (!items) throw py::error_already_set();
    for (const py::handle item : items) {
        if (!PyLong_CheckExact(item.ptr())) return false;
        const Py_ssize_t row = PyLong_AsSsize_t(item.ptr());
        if (row == -1 && PyErr_Occurred() != nullptr) {
            PyErr_Clear();
            return false;
        }
        rows.push_back(row);
    }
    return true;
}

[[noreturn]] void throw_row_error(const char* name, std::ptrdiff_t batch, const std::string& got) {
    throw py::index_error(std::string(name) + ": expected numbers from 0 to " + std::to_string(batch - 1) + ", got " +
                          got);
}

// The same of anything that NumPy takes for numbers or a mask.
void read_any_rows(py::handle value, const char* name, std::ptrdiff_t batch, std::vector<std::ptrdiff_t>& rows) {
    const std::string expected = "row numbers or a boolean mask";
    py::object indices = to_array(value, name, expected);
    const auto array_of = [](const py::object& object) { return reinterpret_cast<PyArrayObject*>(object.ptr()); };
    PyArrayObject* const array = array_of(indices);
    if (PyArray_ISBOOL(array)) {
        if (PyArray_NDIM(array) != 1 || PyArray_DIM(array, 0) != batch) {
            throw_shape_error(name, to_text({batch}) + " for a mask",
                              to_text({PyArray_DIMS(array), PyArray_DIMS(array) + PyArray_NDIM(array)}));
        }
        const auto axes = py::reinterpret_steal<py::tuple>(PyArray_Nonzero(array));
        if (!axes) throw py::error_already_set();
        indices = axes[0];
    } else if (!PyArray_ISINTEGER(array) && PyArray_SIZE(array) != 0) {
        throw py::type_error(std::string(name) + ": expected " + expected + ", got dtype " +
                             text_of(reinterpret_cast<PyObject*>(PyArray_DESCR(array))));
    }
    const auto flat = py::reinterpret_steal<py::object>(PyArray_Ravel(array_of(indices), NPY_CORDER));
    if (!flat) throw py::error_already_set();
    const auto numbers = py::reinterpret_steal<py::list>(PyArray_ToList(array_of(flat)));
    if (!numbers) throw py::error_already_set();
    for (const py::handle item : numbers) {
        const Integer row(item, name);
        if (row.nearest() < -batch || row.nearest() >= batch) throw_row_error(name, batch, row.text());
        rows.push_back(static_cast<std::ptrdiff_t>(row.nearest()));
    }
}

// Every row is checked before the first is changed.
std::vector<std::ptrdiff_t> rows_of(Stream& stream, py::handle value) {
    std::vector<std::ptrdiff_t> rows;
    if (value.is_none()) {
        rows.resize(static_cast<std::size_t>(stream.batch()));
        std::iota(rows.begin(), rows.end(), 0);
    } else {
        read_rows(value, "rows", -stream.batch(), stream.batch(), rows);
    }
    return rows;
}

py::handle or_none(PyObject* value) { return value == nullptr ? Py_None : value; }

constexpr Signature kReset{"reset(rows=None)", {"rows"}, 0};

py::object reset(py::handle self, const Arguments& values) {
    auto& stream = instance_of<Stream>(self.ptr());
    const std::vector<std::ptrdiff_t> selected = rows_of(stream, or_none(values[0]));
    const Stream::InUse in_use(stream);
    for (const std::ptrdiff_t row : selected) stream.states().reset_row(row);
    return py::none();
}

PyMethodDef reset_definition = fast_method<kReset, &reset>(
    "reset",
    "reset($self, /, rows=None)\n--\n\n"
    "Sets the state to what it started from: of every row, or of the given row numbers, or where a boolean "
    "mask is true.");

py::object reorder(py::handle self, const Arguments& values) {
    auto& stream = instance_of<Stream>(self.ptr());
    const std::vector<std::ptrdiff_t> rows = read_order(values[0], stream.batch());
    const Stream::InUse in_use(stream);
    stream.states().reorder(rows);
    return py::none();
}

PyMethodDef reorder_definition = fast_method<kReorder, &reorder>("reorder", kReorderDoc);

constexpr Signature kDecay{"decay(factor, rows=None)", {"factor", "rows"}, 1};

py::object decay(py::handle self, const Arguments& values) {
    auto& stream = instance_of<Stream>(self.ptr());
    const double factor = read_float(values[0], "factor");
    if (!(factor >= 0 && factor <= 1)) {
        throw py::value_error("factor: expected a number from 0 to 1, got " +
                              py::repr(py::float_(factor)).cast<std::string>());
    }
    std::vector<std::ptrdiff_t> selected = rows_of(stream, or_none(values[1]));
    std::sort(selected.begin(), selected.end());
    selected.erase(std::unique(selected.begin(), selected.end()), selected.end());
    const Stream::InUse in_use(stream);
    for (const std::ptrdiff_t row : selected) stream.states().decay_row(row, factor);
    return py::none();
}

PyMethodDef decay_definition = fast_method<kDecay, &decay>(
    "decay",
    "decay($self, /, factor, rows=None)\n--\n\n"
    "Takes h and c towards what they started from, s_0: s becomes factor * s + (1 - factor) * s_0, computed\n"
    "in float64 and rounded once. 1 changes nothing and 0 is a reset, but for values that are not finite,\n"
    "which stay so. `rows` are as for `reset`; each counts once. Raises ValueError unless factor is from 0\n"
    "to 1.");

constexpr Signature kNorm{"norm()", {}, 0};

py::object norm(py::handle self, const Arguments&) {
    auto& stream = instance_of<Stream>(self.ptr());
    const npy_intp batch = stream.batch();
    PyObject* array = PyArray_SimpleNew(1, &batch, NPY_FLOAT64);
    if (array == nullptr) throw py::error_already_set();
    py::object norms = py::reinterpret_steal<py::object>(array);
    auto* data = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array)));
    const Stream::InUse in_use(stream);
    for (npy_intp row = 0; row < batch; ++row) data[row] = stream.states().norm(row);
    return batch == 1 ? py::float_(data[0]) : norms;
}

PyMethodDef norm_definition = fast_method<kNorm, &norm>(
    "norm",
    "norm($self, /)\n--\n\n"
    "The L2 norm of h and c of all layers together: a float, or (batch_size,) float64 for a stream of more\n"
    "than one row.");

constexpr Signature kIsFinite{"is_finite()", {}, 0};

py::object is_finite(py::handle self, const Arguments&) {
    auto& stream = instance_of<Stream>(self.ptr());
    const npy_intp batch = stream.batch();
    PyObject* array = PyArray_SimpleNew(1, &batch, NPY_BOOL);
    if (array == nullptr) throw py::error_already_set();
    py::object finite = py::reinterpret_steal<py::object>(array);
    auto* data = static_cast<npy_bool*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array)));
    const Stream::InUse in_use(stream);
    for (npy_intp row = 0; row < batch; ++row) data[row] = stream.states().is_finite(row) ? 1 : 0;
    return batch == 1 ? py::bool_(data[0] != 0) : finite;
}

PyMethodDef is_finite_definition = fast_method<kIsFinite, &is_finite>(
    "is_finite",
    "is_finite($self, /)\n--\n\n"
    "Whether all of h and c is finite: a bool, or (batch_size,) bools for a stream of more than one row.");

constexpr Signature kToBytes{"to_bytes()", {}, 0};

py::object to_bytes(py::handle self, const Arguments&) {
    instance_of<Stream>(self.ptr());    // or Python would look at what is not there
    const py::module_ module = py::module_::import("fusedcell._stream_bytes");
    PyObject* bytes = call_python([&] { return PyObject_CallMethod(module.ptr(), "to_bytes", "O", self.ptr()); });
    if (bytes == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(bytes);
}

PyMethodDef to_bytes_definition = fast_method<kToBytes, &to_bytes>(
    "to_bytes",
    "to_bytes($self, /)\n--\n\n"
    "The state, and what it resets to, as bytes for `layer.stream_from_bytes`, also of another process or\n"
    "machine. docs/file_format.md describes them.");

py::object get_state(const py::object& self) {
    auto& stream = self.cast<Stream&>();
    py::object h = view_of(self, stream.states().h(), h_shape(stream.shape(), stream.batch()));
    if (stream.states().c() == nullptr) return h;
    return py::make_tuple(h, view_of(self, stream.states().c(), c_shape(stream.shape(), stream.batch())));
}

// A state that is given: (L, B, size) each, or (L, size) for a stream of one row.
struct GivenState {
    FloatArray h;
    std::optional<FloatArray> c;

    // Checks both after both are converted, as code of an argument's own that converts one can change the other.
    GivenState(const NodeShape& shape, std::ptrdiff_t batch, py::handle h_value, py::handle c_value, const char* h_name,
               const char* c_name)
        : h(h_value, h_name) {
        if (shape.c_size > 0) c.emplace(c_value, c_name);
        check(h, h_shape(shape, batch), h_value);
        if (c) check(*c, c_shape(shape, batch), c_value);
    }

    const float* c_data() const { return c ? c->data() : nullptr; }

private:
    static void check(const FloatArray& array, const Shape& shape, py::handle value) {
        array.expect_unchanged();
        const Shape unbatched{shape[0], shape[2]};
        if (array.shape() == shape || (shape[1] == 1 && array.shape() == unbatched)) return;
        throw_state_error(array.name(), shape, array.shape(), value);
    }
};

void set_state(Stream& stream, const py::object& value) {
    const bool has_c = stream.states().c() != nullptr;
    if (has_c && !is_pair(value)) {
        throw py::type_error(std::string("state: expected a pair (h, c), got ") + Py_TYPE(value.ptr())->tp_name);
    }
    const auto item = [&](Py_ssize_t index) {
        auto part =
            py::reinterpret_steal<py::object>(call_python([&] { return PySequence_GetItem(value.ptr(), index); }));
        if (!part) throw py::error_already_set();
        return part;
    };
    const py::object h = has_c ? item(0) : value;
    const py::object c = has_c ? item(1) : py::none();
    const GivenState given(stream.shape(), stream.batch(), h, c, "state h", "state c");
    const Stream::InUse in_use(stream);
    std::memmove(stream.states().h(), given.h.data(), stream.states().h_floats() * sizeof(float));
    if (has_c) std::memmove(stream.states().c(), given.c_data(), stream.states().c_floats() * sizeof(float));
}

// h, c and what they start from, copied; None where there is none.
py::tuple snapshot(Stream& stream) {
    States& states = stream.states();
    const auto room_for = [](const float* values, const Shape& shape) -> py::object {
        return values == nullptr ? py::none() : new_array(shape);
    };
    const Shape h_dims = h_shape(stream.shape(), stream.batch());
    const Shape c_dims = c_shape(stream.shape(), stream.batch());
    const py::object h = room_for(states.h(), h_dims);
    const py::object c = room_for(states.c(), c_dims);
    const py::object initial_h = room_for(states.initial_h(), h_dims);
    const py::object initial_c = room_for(states.initial_c(), c_dims);
    const auto copy = [](const py::object& array, const float* values, std::size_t size) {
        if (values != nullptr) std::memcpy(data_of(array), values, size * sizeof(float));
    };
    const Stream::InUse in_use(stream);
    copy(h, states.h(), states.h_floats());
    copy(c, states.c(), states.c_floats());
    copy(initial_h, states.initial_h(), states.h_floats());
    copy(initial_c, states.initial_c(), states.c_floats());
    return py::make_tuple(h, c, initial_h, initial_c);
}

}    // namespace

Shape h_shape(const NodeShape& shape, std::ptrdiff_t batch) { return {shape.state_layers, batch, shape.h_size}; }

Shape c_shape(const NodeShape& shape, std::ptrdiff_t batch) { return {shape.state_layers, batch, shape.c_size}; }

bool overlaps(PyArrayObject* array, States& states) {
    return overlaps(array, states.h(), states.h_floats()) ||
           (states.c() != nullptr && overlaps(array, states.c(), states.c_floats()));
}

float* writeable_floats(PyObject* out, const std::string& name) {
    if (!PyArray_Check(out)) {
        throw py::type_error(name + ": expected a float32 array, got " + Py_TYPE(out)->tp_name);
    }
    auto* array = reinterpret_cast<PyArrayObject*>(out);
    if (PyArray_TYPE(array) != NPY_FLOAT32) {
        throw py::type_error(name + ": expected a float32 array, got dtype " +
                             text_of(reinterpret_cast<PyObject*>(PyArray_DESCR(array))));
    }
    if (!PyArray_ISCARRAY(array)) {
        throw py::value_error(name + ": expected a writeable, aligned, C-contiguous array in native byte order");
    }
    return static_cast<float*>(PyArray_DATA(array));
}

float* checked_out(PyObject* out, const RowsShape& shape) {
    float* data = writeable_floats(out, "out");
    if (!shape.is_of(reinterpret_cast<PyArrayObject*>(out))) FloatArray(out, "out").expect_shape(shape.dims());
    return data;
}

void check_apart(PyArrayObject* out, States& states) {
    if (overlaps(out, states)) throw py::value_error("out: expected memory of its own, got the stream's state");
}

void read_rows(py::handle value, const char* name, std::ptrdiff_t first, std::ptrdiff_t batch,
               std::vector<std::ptrdiff_t>& rows) {
    rows.clear();
    if (!read_plain_rows(value, rows)) {
        rows.clear();
        read_any_rows(value, name, batch, rows);
    }
    for (std::ptrdiff_t& row : rows) {
        if (row < first || row >= batch) throw_row_error(name, batch, std::to_string(row));
        if (row < 0) row += batch;
    }
}

std::vector<std::ptrdiff_t> read_order(py::handle value, std::ptrdiff_t batch) {
    const py::object numbers = to_array(value, "rows", "row numbers");
    auto* array = reinterpret_cast<PyArrayObject*>(numbers.ptr());
    if (!PyArray_ISINTEGER(array)) {
        throw py::type_error("rows: expected row numbers, got dtype " +
                             text_of(reinterpret_cast<PyObject*>(PyArray_DESCR(array))));
    }
    if (PyArray_NDIM(array) != 1 || PyArray_DIM(array, 0) != batch) {
        throw_shape_error("rows", to_text({batch}) + ", a number for each row",
                          to_text({PyArray_DIMS(array), PyArray_DIMS(array) + PyArray_NDIM(array)}));
    }
    std::vector<std::ptrdiff_t> rows;
    read_rows(numbers, "rows", -batch, batch, rows);
    return rows;
}

py::object view_of(const py::object& owner, float* data, const Shape& shape, const Shape& strides) {
    std::vector<npy_intp> dims(shape.begin(), shape.end());
    std::vector<npy_intp> bytes;
    for (const std::ptrdiff_t stride : strides) bytes.push_back(stride * static_cast<npy_intp>(sizeof(float)));
    PyObject* view = PyArray_New(&PyArray_Type, static_cast<int>(dims.size()), dims.data(), NPY_FLOAT32,
                                 bytes.empty() ? nullptr : bytes.data(), data, 0, NPY_ARRAY_WRITEABLE, nullptr);
    if (view == nullptr) throw py::error_already_set();
    py::object owned = py::reinterpret_steal<py::object>(view);
    if (PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(view), py::object(owner).release().ptr()) < 0) {
        throw py::error_already_set();
    }
    return owned;
}

void start_from(const NodeShape& shape, States& states, py::handle h_0, py::handle c_0) {
    if (h_0.is_none()) return;
    const GivenState given(shape, states.batch(), h_0, c_0, "h_0", "c_0");
    states.start_from(given.h.data(), given.c_data());
}

std::ptrdiff_t read_count(py::handle value, const char* name) {
    const Integer number(value, name);
    if (number.nearest() < 1) throw py::value_error(std::string(name) + ": expected at least 1, got " + number.text());
    // Far beyond any memory, and small enough that no size computed from it can overflow.
    constexpr std::int64_t kMost = std::int64_t{1} << 31;
    if (number.nearest() > kMost) {
        throw py::value_error(std::string(name) + ": expected at most 2**31, got " + number.text());
    }
    return to_size(number.nearest());
}

std::ptrdiff_t read_batch(const Node& node, py::handle value, const char* name) {
    const std::ptrdiff_t batch = read_count(value, name);
    if (!node.shape().has_streams) throw py::value_error("stack: expected one direction that runs forwards");
    return batch;
}

void bind_states(py::class_<Stream>& stream) {
    for (PyMethodDef* method : {&reset_definition, &reorder_definition, &decay_definition, &norm_definition,
                                &is_finite_definition, &to_bytes_definition}) {
        add_method(stream, *method);
    }
    stream.def("_snapshot", &snapshot)
        .def_property_readonly("_stack", &Stream::owner)
        .def_property("state", &get_state, &set_state,
                      "h, or (h, c) for an LSTM: writeable views, (num_layers, batch_size, size). Assigning copies.");
}

}    // namespace fusedcell::bindings
