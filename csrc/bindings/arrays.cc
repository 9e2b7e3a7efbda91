#include "bindings/arrays.h"

#include "kernels/simd/float_mode.h"
#include "pack/sizes.h"

#include <algorithm>
#include <cfenv>
#include <cstring>
#include <limits>

namespace fusedcell::bindings {
namespace {

std::string type_name(py::handle value) { return Py_TYPE(value.ptr())->tp_name; }

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

// Any array that NumPy makes of the value, with the failure named after the argument.
py::object as_array(py::handle value, const std::string& name, const std::string& expected) {
    PyObject* array = PyArray_FromAny(value.ptr(), nullptr, 0, 0, 0, nullptr);
    if (array == nullptr) {
        py::error_already_set cause;
        py::raise_from(cause, PyExc_TypeError, (name + ": expected " + expected + ", got " + type_name(value)).c_str());
        throw py::error_already_set();
    }
    return py::reinterpret_steal<py::object>(array);
}

PyArrayObject* as_array_object(const py::object& array) { return reinterpret_cast<PyArrayObject*>(array.ptr()); }

std::string dtype_text(const py::object& array) { return py::str(array.attr("dtype")).cast<std::string>(); }

// A copy of integers of any width, and their shape.
std::pair<std::vector<std::int64_t>, Shape> read_integers(py::handle value, const char* name) {
    const py::object array = as_array(value, name, "an array of integers");
    if (!PyArray_ISINTEGER(as_array_object(array))) {
        throw py::type_error(std::string(name) + ": expected an array of integers, got dtype " + dtype_text(array));
    }
    // Unsigned 64-bit values that do not fit become negative here, which callers refuse.
    PyObject* converted = PyArray_FromArray(as_array_object(array), PyArray_DescrFromType(NPY_INT64),
                                            NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST);
    if (converted == nullptr) throw py::error_already_set();
    const py::object owner = py::reinterpret_steal<py::object>(converted);
    PyArrayObject* integers = as_array_object(owner);
    const auto* data = static_cast<const std::int64_t*>(PyArray_DATA(integers));
    return {{data, data + PyArray_SIZE(integers)},
            {PyArray_DIMS(integers), PyArray_DIMS(integers) + PyArray_NDIM(integers)}};
}

}    // namespace

void throw_shape_error(const std::string& name, const std::string& expected, const std::string& got) {
    throw py::value_error(shape_error(name, expected, got));
}

FloatArray::FloatArray(py::handle value, const std::string& name) : name_(name) {
    if (is_plain_float32(value.ptr())) {
        owner_ = py::reinterpret_borrow<py::object>(value);
        return;
    }
    const py::object array = as_array(value, name, "an array of floats");
    if (!PyArray_ISFLOAT(as_array_object(array))) {
        throw py::type_error(name + ": expected an array of floats, got " +
                             (PyArray_Check(value.ptr()) ? "" : type_name(value) + " of ") + "dtype " +
                             dtype_text(array));
    }
    const ScopedLongDoubleMode long_doubles(PyArray_TYPE(as_array_object(array)) == NPY_LONGDOUBLE);
    const ScopedFloatMode mode(kStandardFloatMode);    // NumPy would round as the caller's does
    PyObject* converted = PyArray_FromArray(as_array_object(array), PyArray_DescrFromType(NPY_FLOAT32),
                                            NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST);
    if (converted == nullptr) throw py::error_already_set();
    owner_ = py::reinterpret_steal<py::object>(converted);
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
    PyObject* copy = PyArray_NewCopy(array(), NPY_CORDER);
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

int checked_num_threads(py::handle value) {
    const auto index =
        py::reinterpret_steal<py::object>(PyBool_Check(value.ptr()) ? nullptr : PyNumber_Index(value.ptr()));
    if (!index) {
        PyErr_Clear();
        throw py::type_error("num_threads: expected an integer, got " + type_name(value));
    }
    int beyond = 0;    // -1 or 1 for integers of more than 64 bits
    const long long threads = PyLong_AsLongLongAndOverflow(index.ptr(), &beyond);
    if (beyond < 0 || (beyond == 0 && threads < 1)) {
        throw py::value_error("num_threads: expected at least 1, got " + py::str(index).cast<std::string>());
    }
    constexpr int kMost = std::numeric_limits<int>::max();
    return beyond > 0 || threads > kMost ? kMost : static_cast<int>(threads);
}

std::unique_ptr<bool[]> read_mask(py::handle value, const Shape& shape) {
    const py::object array = as_array(value, "mask", "an array of bools");
    if (PyArray_TYPE(as_array_object(array)) != NPY_BOOL) {
        throw py::type_error("mask: expected an array of bools, got dtype " + dtype_text(array));
    }
    PyObject* contiguous = PyArray_FromArray(as_array_object(array), nullptr, NPY_ARRAY_CARRAY_RO);
    if (contiguous == nullptr) throw py::error_already_set();
    const py::object owner = py::reinterpret_steal<py::object>(contiguous);
    PyArrayObject* mask = as_array_object(owner);
    const Shape got(PyArray_DIMS(mask), PyArray_DIMS(mask) + PyArray_NDIM(mask));
    if (got != shape) throw_shape_error("mask", to_text(shape) + " (x's without its last axis)", to_text(got));
    const auto* data = static_cast<const unsigned char*>(PyArray_DATA(mask));
    const auto size = static_cast<std::size_t>(PyArray_SIZE(mask));
    std::unique_ptr<bool[]> copy(new bool[size]);
    std::transform(data, data + size, copy.get(), [](unsigned char byte) { return byte != 0; });
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
