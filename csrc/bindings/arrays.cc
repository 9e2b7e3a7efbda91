#include "bindings/arrays.h"

#include "bindings/arguments.h"
#include "bindings/gil.h"
#include "kernels/simd/float_mode.h"
#include "pack/sizes.h"

#include <algorithm>
#include <cfenv>
#include <cstring>
#include <numeric>

namespace fusedcell::bindings {
namespace {

// PyTorch's.
bool is_packed_sequence(py::handle value) {
    return PyTuple_Check(value.ptr()) && !PyTuple_CheckExact(value.ptr()) &&
           py::hasattr(py::type::handle_of(value), "batch_sizes");
}

// Of x86-64's long doubles, which have a mode of their own: rounds to nearest and traps nothing. It is there only if it
// is needed.
class ScopedLongDoubleMode {
public:
    explicit ScopedLongDoubleMode(bool is_needed) : is_needed_(is_needed) {
        if (!is_needed_) return;
        std::feholdexcept(&callers_);
        std::fesetround(FE_TONEAREST);
    }
    ~ScopedLongDoubleMode() {
        if (is_needed_) std::fesetenv(&callers_);
    }
    ScopedLongDoubleMode(const ScopedLongDoubleMode&) = delete;
    ScopedLongDoubleMode& operator=(const ScopedLongDoubleMode&) = delete;

private:
    const bool is_needed_;
    std::fenv_t callers_{};
};

PyArrayObject* as_array_object(const py::object& array) { return reinterpret_cast<PyArrayObject*>(array.ptr()); }

std::string dtype_text(const py::object& array) {
    return text_of(reinterpret_cast<PyObject*>(PyArray_DESCR(as_array_object(array))));
}

// Of this dtype unless it is null, and contiguous. Nothing if NumPy raises.
py::object contiguous(const py::object& array, PyArray_Descr* dtype) {
    return py::reinterpret_steal<py::object>(call_python(
        [&] { return PyArray_FromArray(as_array_object(array), dtype, NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST); }));
}

// How many sequences within one another are looked at for what NumPy would hide: more than any argument has axes.
constexpr int kMostNested = 4;

// NumPy swallows what exporting a buffer and __len__ raise, a Ctrl-C too, and goes on as if the value had neither. This
// asks first: the value with views of memory and lists in the place of such parts, or nothing, with Python's error.
class ReadFirst {
public:
    static py::object in(py::handle value, int depth = kMostNested) {
        PyObject* object = value.ptr();
        const bool is_itself = depth == 0 || PyFloat_CheckExact(object) || PyLong_CheckExact(object) ||
                               PyArray_Check(object) || PyArray_CheckScalar(object) || PyUnicode_Check(object) ||
                               PyBytes_Check(object);
        if (is_itself) return py::reinterpret_borrow<py::object>(value);
        if (PyList_CheckExact(object) || PyTuple_CheckExact(object)) return items(value, depth);
        if (PyObject_CheckBuffer(object)) {
            py::object view = call([&] { return PyMemoryView_FromObject(object); });
            if (view || !may_be_ignored(PyExc_BufferError)) return view;
        }
        if (!PySequence_Check(object)) return py::reinterpret_borrow<py::object>(value);
        for (const char* name : {"__array_struct__", "__array_interface__", "__array__"}) {
            if (call([&] { return PyObject_GetAttrString(object, name); })) {
                return py::reinterpret_borrow<py::object>(value);
            }
            if (!may_be_ignored(PyExc_AttributeError)) return {};
        }
        if (call_python([&] { return PySequence_Size(object); }) < 0) {
            return may_be_ignored(PyExc_TypeError) ? py::reinterpret_borrow<py::object>(value) : py::object();
        }
        const py::object list = call([&] { return PySequence_List(object); });
        return list ? items(list, depth) : list;
    }

private:
    template <class Call>
    static py::object call(const Call& function) {
        return py::reinterpret_steal<py::object>(call_python(function));
    }

    // Forgets the error if it says that there is no such thing.
    static bool may_be_ignored(PyObject* error) {
        if (PyErr_ExceptionMatches(error) == 0) return false;
        PyErr_Clear();
        return true;
    }

    static py::object items(py::handle sequence, int depth) {
        // Other code can change a list while it is gone through.
        const py::object tuple = call([&] { return PySequence_Tuple(sequence.ptr()); });
        if (!tuple) return {};
        const Py_ssize_t size = PyTuple_GET_SIZE(tuple.ptr());
        py::object changed;
        for (Py_ssize_t i = 0; i < size; ++i) {
            PyObject* const item = PyTuple_GET_ITEM(tuple.ptr(), i);
            py::object read = in(item, depth - 1);
            if (!read) return read;
            if (read.ptr() == item) continue;
            if (!changed) changed = py::reinterpret_steal<py::object>(PySequence_List(tuple.ptr()));
            if (!changed || PyList_SetItem(changed.ptr(), i, read.release().ptr()) < 0) return {};
        }
        return changed ? changed : py::reinterpret_borrow<py::object>(sequence);
    }
};

}    // namespace

py::object to_array(py::handle value, const std::string& name, const std::string& expected) {
    PyObject* array = nullptr;
    const bool is_packed = is_packed_sequence(value);
    const py::object read = ReadFirst::in(value);
    if (read) array = call_python([&] { return PyArray_FromAny(read.ptr(), nullptr, 0, 0, 0, nullptr); });
    if (array == nullptr) {
        const std::string message = name + ": expected " + expected + ", got " + type_name(value);
        if (is_packed) throw_conversion_error(message + "; give padded data with lengths=, or accelerate the module");
        throw_conversion_error(message, true);
    }
    return py::reinterpret_steal<py::object>(array);
}

void throw_shape_error(const std::string& name, const std::string& expected, const std::string& got) {
    throw py::value_error(shape_error(name, expected, got));
}

std::string transposing(const Shape& got, const std::vector<Shape>& fitting) {
    constexpr std::size_t kMostAxes = 5;    // whose orders are few
    Shape order(got.size());
    std::iota(order.begin(), order.end(), 0);
    std::vector<std::string> found;
    while (order.size() <= kMostAxes && found.size() < 2 && std::next_permutation(order.begin(), order.end())) {
        const bool fits = std::any_of(fitting.begin(), fitting.end(), [&](const Shape& sizes) {
            return std::equal(order.begin(), order.end(), sizes.begin(), sizes.end(),
                              [&](std::ptrdiff_t axis, std::ptrdiff_t size) { return size < 0 || got[axis] == size; });
        });
        if (fits) found.push_back(to_text(order));
    }
    if (found.empty()) return "";
    return "; numpy.transpose(array, " + found[0] + ")" + (found.size() > 1 ? ", or " + found[1] + "," : "") +
           " would fit";
}

void throw_state_error(const std::string& name, const Shape& expected, const Shape& got, py::handle value) {
    throw py::value_error(shape_error(name, to_text(expected), to_text(got) + transposing(got, {expected})) +
                          (is_pair(value) ? "; only an LSTM's state is a pair (h, c)" : ""));
}

bool is_pair(py::handle value) {
    return (PyTuple_Check(value.ptr()) && PyTuple_GET_SIZE(value.ptr()) == 2) ||
           (PyList_Check(value.ptr()) && PyList_GET_SIZE(value.ptr()) == 2);
}

FloatArray::FloatArray(py::handle value, const std::string& name, const char* advice) : name_(name) {
    if (is_plain_float32(value.ptr())) {
        owner_ = py::reinterpret_borrow<py::object>(value);
        return;
    }
    const py::object array = to_array(value, name, "an array of floats");
    if (!PyArray_ISFLOAT(as_array_object(array))) {
        const bool is_number = PyArray_ISINTEGER(as_array_object(array)) || PyArray_ISBOOL(as_array_object(array));
        throw py::type_error(
            name + ": expected an array of floats, got " +
            (PyArray_Check(value.ptr()) ? "" : type_name(value) + " of ") + "dtype " + dtype_text(array) +
            (is_number ? "; numpy.asarray(value, numpy.float32) makes floats of it" : "") + (is_number ? advice : ""));
    }
    const ScopedLongDoubleMode long_doubles(PyArray_TYPE(as_array_object(array)) == NPY_LONGDOUBLE);
    const ScopedFloatMode mode(kStandardFloatMode);    // NumPy would round as the caller's does
    owner_ = contiguous(array, PyArray_DescrFromType(NPY_FLOAT32));
    if (!owner_) throw py::error_already_set();
}

Shape FloatArray::shape() const {
    const npy_intp* dims = PyArray_DIMS(array());
    return {dims, dims + ndim()};
}

void FloatArray::expect_shape(const Shape& expected) const {
    if (shape() != expected) throw_shape_error(name_, to_text(expected), to_text(shape()));
}

void FloatArray::expect_unchanged(std::ptrdiff_t size) const {
    if (is_plain_float32(owner_.ptr()) && this->size() == size) return;
    throw py::value_error(name_ + ": it was changed in place while another argument was converted");
}

bool overlaps(PyArrayObject* array, const float* memory, std::size_t size) {
    const auto begin = reinterpret_cast<std::uintptr_t>(memory);
    const auto end = reinterpret_cast<std::uintptr_t>(memory + size);
    const auto own_begin = reinterpret_cast<std::uintptr_t>(PyArray_DATA(array));
    const auto own_end = own_begin + static_cast<std::uintptr_t>(PyArray_NBYTES(array));
    return own_begin < end && begin < own_end;
}

void FloatArray::detach() {
    PyObject* copy = call_python([&] { return PyArray_NewCopy(array(), NPY_CORDER); });
    if (copy == nullptr) throw py::error_already_set();
    owner_ = py::reinterpret_steal<py::object>(copy);
}

void throw_array_error(const npy_intp* dims, int ndim) {
    const py::error_already_set error;    // NumPy's, a ValueError where the bytes are no size
    if (std::find(dims, dims + ndim, 0) != dims + ndim) throw error;
    std::ptrdiff_t bytes = sizeof(float);
    for (int i = 0; i < ndim; ++i) bytes = product_of(bytes, dims[i]);
    throw error;
}

py::object new_array(const Shape& shape) {
    std::vector<npy_intp> dims(shape.begin(), shape.end());
    const auto ndim = static_cast<int>(dims.size());
    PyObject* array = PyArray_SimpleNew(ndim, dims.data(), NPY_FLOAT32);
    if (array == nullptr) throw_array_error(dims.data(), ndim);
    return py::reinterpret_steal<py::object>(array);
}

py::object new_zeros(const Shape& shape) {
    std::vector<npy_intp> dims(shape.begin(), shape.end());
    const auto ndim = static_cast<int>(dims.size());
    PyObject* array = PyArray_ZEROS(ndim, dims.data(), NPY_FLOAT32, 0);
    if (array == nullptr) throw_array_error(dims.data(), ndim);
    return py::reinterpret_steal<py::object>(array);
}

float* data_of(const py::object& array) { return static_cast<float*>(PyArray_DATA(as_array_object(array))); }

std::pair<std::vector<std::int64_t>, Shape> read_integers(py::handle value, const std::string& name) {
    const py::object array = to_array(value, name, "an array of integers");
    if (!PyArray_ISINTEGER(as_array_object(array))) {
        throw py::type_error(name + ": expected an array of integers, got dtype " + dtype_text(array));
    }
    const py::object owner = contiguous(array, PyArray_DescrFromType(NPY_INT64));
    if (!owner) throw py::error_already_set();
    PyArrayObject* integers = as_array_object(owner);
    const auto* data = static_cast<const std::int64_t*>(PyArray_DATA(integers));
    return {{data, data + PyArray_SIZE(integers)},
            {PyArray_DIMS(integers), PyArray_DIMS(integers) + PyArray_NDIM(integers)}};
}

std::unique_ptr<bool[]> read_mask(py::handle value, const Shape& shape, const std::string& name) {
    const py::object array = to_array(value, name, "an array of bools");
    const bool is_integer = PyArray_ISINTEGER(as_array_object(array)) != 0;
    if (!is_integer && PyArray_TYPE(as_array_object(array)) != NPY_BOOL) {
        throw py::type_error(name + ": expected an array of bools, got dtype " + dtype_text(array));
    }
    const py::object owner = contiguous(array, is_integer ? PyArray_DescrFromType(NPY_INT64) : nullptr);
    if (!owner) throw py::error_already_set();
    PyArrayObject* mask = as_array_object(owner);
    const Shape got(PyArray_DIMS(mask), PyArray_DIMS(mask) + PyArray_NDIM(mask));
    if (got != shape) throw_shape_error(name, to_text(shape) + " (x's without its last axis)", to_text(got));
    const auto size = static_cast<std::size_t>(PyArray_SIZE(mask));
    std::unique_ptr<bool[]> copy(new bool[size]);
    if (is_integer) {
        const auto* data = static_cast<const std::int64_t*>(PyArray_DATA(mask));
        std::transform(data, data + size, copy.get(), [&name](std::int64_t number) {
            if (number == 0 || number == 1) return number == 1;
            throw py::value_error(name + ": expected bools, or integers 0 and 1, got " + std::to_string(number));
        });
    } else {
        const auto* data = static_cast<const unsigned char*>(PyArray_DATA(mask));
        std::transform(data, data + size, copy.get(), [](unsigned char byte) { return byte != 0; });
    }
    return copy;
}

std::vector<std::int64_t> read_lengths(py::handle value, std::ptrdiff_t batch, std::ptrdiff_t steps) {
    const auto [lengths, shape] = read_integers(value, "lengths");
    if (shape != Shape{batch}) throw_shape_error("lengths", to_text({batch}) + " (one per batch row)", to_text(shape));
    for (std::size_t b = 0; b < lengths.size(); ++b) {
        if (lengths[b] < 0 || lengths[b] > steps) {
            throw py::value_error("lengths: expected values from 0 to the number of steps, " + std::to_string(steps) +
                                  ", got " + std::to_string(lengths[b]) + " at index " + std::to_string(b));
        }
    }
    return lengths;
}

std::vector<std::int64_t> read_batch_sizes(py::handle value, std::ptrdiff_t rows) {
    const auto [sizes, shape] = read_integers(value, "batch_sizes");
    if (shape.size() != 1 || sizes.empty()) throw_shape_error("batch_sizes", "(steps,), at least 1", to_text(shape));
    std::int64_t left = rows;
    for (std::size_t step = 0; step < sizes.size(); ++step) {
        const std::int64_t most = step == 0 ? left : std::min(left, sizes[step - 1]);
        if (sizes[step] < 1 || sizes[step] > most) {
            throw py::value_error(
                "batch_sizes: expected numbers from 1 on that never rise and add up to the rows of x, " +
                std::to_string(rows) + ", got " + std::to_string(sizes[step]) + " at index " + std::to_string(step) +
                " with " + std::to_string(left) + " rows left");
        }
        left -= sizes[step];
    }
    if (left != 0) {
        throw py::value_error("batch_sizes: expected numbers that add up to the rows of x, " + std::to_string(rows) +
                              ", got " + std::to_string(rows - left));
    }
    return sizes;
}

}    // namespace fusedcell::bindings
