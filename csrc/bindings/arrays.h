// NumPy arrays in and out of the library, and the errors that name what was wrong with them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// The array API table is filled in by module.cc and shared by the other files of this folder.
#define NPY_NO_DEPRECATED_API NPY_1_23_API_VERSION
#define NPY_TARGET_VERSION NPY_1_23_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL fusedcell_array_api
#ifndef FUSEDCELL_IMPORTS_ARRAY_API
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include "model/shape.h"

namespace fusedcell::bindings {

namespace py = pybind11;

/// ValueError "name: expected shape (3, 4), got (3, 5)".
[[noreturn]] void throw_shape_error(const std::string& name, const std::string& expected, const std::string& got);

/// What follows the shape that came where its axes in another order are one of `fitting`, of whose sizes negative ones
/// stand for any: "; numpy.transpose(array, (1, 0)) would fit", or the first two such orders; else "".
std::string transposing(const Shape& got, const std::vector<Shape>& fitting);

/// The same for a state, whose `value` may be an LSTM's pair where only h was expected.
[[noreturn]] void throw_state_error(const std::string& name, const Shape& expected, const Shape& got, py::handle value);

/// A tuple or a list of two.
bool is_pair(py::handle value);

/// True for a float32 array that kernels can read in place: native byte order, aligned, C-contiguous.
inline bool is_plain_float32(PyObject* object) {
    if (!PyArray_Check(object)) return false;
    auto* array = reinterpret_cast<PyArrayObject*>(object);
    return PyArray_TYPE(array) == NPY_FLOAT32 && PyArray_ISCARRAY_RO(array);
}

/// Any array that NumPy makes of the value; a TypeError that names it where it makes none. What code of the value's own
/// raises else comes through.
py::object to_array(py::handle value, const std::string& name, const std::string& expected);

// A float32, C-contiguous array: the caller's own where it is one already, else a converted copy.
class FloatArray {
public:
    /// Takes anything NumPy can view as an array of floats of any width; TypeError otherwise, which ends in `advice`
    /// where bools or integers came.
    FloatArray(py::handle value, const std::string& name, const char* advice = "");

    const float* data() const { return static_cast<const float*>(PyArray_DATA(array())); }
    const std::string& name() const { return name_; }
    Shape shape() const;
    std::ptrdiff_t size() const { return PyArray_SIZE(array()); }
    int ndim() const { return PyArray_NDIM(array()); }
    std::ptrdiff_t dim(int axis) const { return PyArray_DIM(array(), axis); }
    void expect_shape(const Shape& expected) const;
    /// ValueError if the array is no longer one of so many floats. Converting another argument can run code of that
    /// one's own, which can change this one in place, so whoever converts several asks after the last.
    void expect_unchanged(std::ptrdiff_t size) const;
    void expect_unchanged() const { expect_unchanged(size()); }
    /// Replaces the array by a copy that nothing else can reach.
    void detach();

    PyArrayObject* array() const { return reinterpret_cast<PyArrayObject*>(owner_.ptr()); }

private:
    std::string name_;
    py::object owner_;
};

/// The contiguous array's memory overlaps [memory, memory + size).
bool overlaps(PyArrayObject* array, const float* memory, std::size_t size);

/// After NumPy has refused to make a float32 array of these dimensions: MemoryError where there are no addresses for
/// it, else NumPy's own error, which may be one too.
[[noreturn]] void throw_array_error(const npy_intp* dims, int ndim);

/// A new float32 array, not initialised or all zeros.
py::object new_array(const Shape& shape);
py::object new_zeros(const Shape& shape);
float* data_of(const py::object& array);

/// A copy of a mask: bools of this shape, also where they are given as integers 0 and 1.
std::unique_ptr<bool[]> read_mask(py::handle value, const Shape& shape, const std::string& name = "mask");

/// A copy of integers of any width, and the array's shape; TypeError otherwise. Unsigned numbers beyond 64 bits become
/// negative.
std::pair<std::vector<std::int64_t>, Shape> read_integers(py::handle value, const std::string& name);

/// Lengths of a batch: integers (batch,) in [0, steps].
std::vector<std::int64_t> read_lengths(py::handle value, std::ptrdiff_t batch, std::ptrdiff_t steps);

/// How many of packed sequences have each step: integers (steps,) that never rise, `rows` together.
std::vector<std::int64_t> read_batch_sizes(py::handle value, std::ptrdiff_t rows);

}    // namespace fusedcell::bindings
