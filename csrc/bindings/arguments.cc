#include "bindings/arguments.h"

#include <algorithm>
#include <limits>

#include "bindings/gil.h"

namespace fusedcell::bindings {

void throw_conversion_error(std::string message, bool with_cause) {
    py::error_already_set cause;
    // RuntimeError is what a tensor of PyTorch's raises; what derives from it, such as RecursionError, means other
    // things.
    const bool is_conversion = cause.matches(PyExc_TypeError) || cause.matches(PyExc_ValueError) ||
                               cause.matches(PyExc_OverflowError) || cause.type().ptr() == PyExc_RuntimeError;
    if (!is_conversion) throw cause;
    if (with_cause) {
        const std::string text = text_of(cause.value());
        message += ": " + text.substr(0, text.find('\n'));
    }
    py::raise_from(cause, PyExc_TypeError, message.c_str());
    throw py::error_already_set();
}

void throw_unsupported(const char* message) {
    PyObject* type = call_python([] {
        PyObject* module = PyImport_ImportModule("fusedcell.errors");
        PyObject* found = module == nullptr ? nullptr : PyObject_GetAttrString(module, "UnsupportedError");
        Py_XDECREF(module);
        return found;
    });
    if (type != nullptr) py::set_error(py::reinterpret_steal<py::object>(type), message);
    throw py::error_already_set();
}

std::string type_name(py::handle value) { return Py_TYPE(value.ptr())->tp_name; }

std::string text_of(py::handle value) {
    PyObject* text = call_python([&] { return PyObject_Str(value.ptr()); });
    if (text == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::str>(text).cast<std::string>();
}

Integer::Integer(py::handle value, const std::string& name) {
    PyObject* index = call_python([&] { return PyNumber_Index(value.ptr()); });
    if (index == nullptr) throw_conversion_error(name + ": expected an integer, got " + type_name(value));
    value_ = py::reinterpret_steal<py::object>(index);
    int overflow = 0;
    nearest_ = PyLong_AsLongLongAndOverflow(index, &overflow);
    has_64_bits_ = overflow == 0;
    if (overflow != 0) {
        using Limits = std::numeric_limits<std::int64_t>;
        nearest_ = overflow < 0 ? Limits::min() : Limits::max();
    }
}

std::string Integer::text() const {
    PyObject* text = PyObject_Str(value_.ptr());
    if (text != nullptr) return py::reinterpret_steal<py::str>(text).cast<std::string>();
    PyErr_Clear();    // Python writes out no int of thousands of digits
    return "an integer of thousands of digits";
}

bool read_flag(py::handle value, const char* name) {
    const PyNumberMethods* number = Py_TYPE(value.ptr())->tp_as_number;
    const bool is_flag = value.is_none() || (number != nullptr && number->nb_bool != nullptr);
    if (!is_flag) throw py::type_error(std::string(name) + ": expected a bool, got " + type_name(value));
    const int truth = call_python([&] { return PyObject_IsTrue(value.ptr()); });
    if (truth < 0) throw_conversion_error(std::string(name) + ": expected a bool, got " + type_name(value));
    return truth != 0;
}

double read_float(py::handle value, const char* name) {
    const double number = call_python([&] { return PyFloat_AsDouble(value.ptr()); });
    if (number == -1 && PyErr_Occurred() != nullptr) {
        throw_conversion_error(std::string(name) + ": expected a number, got " + type_name(value));
    }
    return number;
}

std::vector<double> read_floats(py::handle values, const char* name) {
    const auto items = py::reinterpret_steal<py::tuple>(call_python([&] { return PySequence_Tuple(values.ptr()); }));
    if (!items) throw_conversion_error(std::string(name) + ": expected numbers, got " + type_name(values));
    std::vector<double> floats;
    for (const py::handle item : items) floats.push_back(read_float(item, name));
    return floats;
}

int read_num_threads(py::handle value) {
    if (PyBool_Check(value.ptr())) throw py::type_error("num_threads: expected an integer, got bool");
    const Integer number(value, "num_threads");
    if (number.nearest() < 1) throw py::value_error("num_threads: expected at least 1, got " + number.text());
    if (!number.has_64_bits()) throw py::type_error("num_threads: expected an int of 64 bits, got " + number.text());
    return static_cast<int>(std::min<std::int64_t>(number.nearest(), std::numeric_limits<int>::max()));
}

}    // namespace fusedcell::bindings
