// Numbers and flags among the arguments, read so that errors name them, and so that what code of an argument's own
// raises comes through.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

namespace fusedcell::bindings {

namespace py = pybind11;

/// Throws the error that Python has: one that says that a value cannot be converted as the cause of a TypeError with
/// this message, and any other as it is, as a Ctrl-C, or a file that cannot be read, does not make an argument wrong.
/// `with_cause` adds the first line of what the cause says, as of a tensor that is to be detached.
[[noreturn]] void throw_conversion_error(std::string message, bool with_cause = false);

/// Throws fusedcell's UnsupportedError.
[[noreturn]] void throw_unsupported(const char* message);

std::string type_name(py::handle value);
/// str(value).
std::string text_of(py::handle value);

// An integer: an int of any size, or what has __index__.
class Integer {
public:
    /// TypeError that names the argument.
    Integer(py::handle value, const std::string& name);

    /// The number, or the nearest of 64 bits.
    std::int64_t nearest() const { return nearest_; }
    bool has_64_bits() const { return has_64_bits_; }
    /// For errors.
    std::string text() const;

private:
    py::object value_;
    std::int64_t nearest_ = 0;
    bool has_64_bits_ = true;
};

/// A bool or a number as one; None is false.
bool read_flag(py::handle value, const char* name);
double read_float(py::handle value, const char* name);
/// Of a sequence, or whatever else can be gone through.
std::vector<double> read_floats(py::handle values, const char* name);

/// A number of threads: at least 1 in 64 bits, with no other limit, as a run takes no more than there are CPUs.
int read_num_threads(py::handle value);

}    // namespace fusedcell::bindings
