#include "bindings/fast_method.h"

#include <string>

namespace fusedcell::bindings {

namespace py = pybind11;

namespace {

[[noreturn]] void throw_argument_error(const Signature& signature, const std::string& what) {
    throw py::type_error(signature.text + (": " + what));
}

std::size_t place_of(const Signature& signature, PyObject* name) {
    for (std::size_t i = 0; i < std::size(signature.names) && signature.names[i] != nullptr; ++i) {
        if (PyUnicode_CompareWithASCIIString(name, signature.names[i]) == 0) return i;
    }
    throw_argument_error(signature, "unexpected argument " + py::repr(name).cast<std::string>());
}

}    // namespace

PyObject* set_python_error() {
    py::detail::try_translate_exceptions();
    return nullptr;
}

Arguments read_arguments(const Signature& signature, PyObject* const* args, Py_ssize_t num_positional,
                         PyObject* keywords) {
    Arguments values{};
    Py_ssize_t most = 0;
    for (const char* name : signature.names) most += name == nullptr ? 0 : 1;
    if (num_positional > most) {
        const std::string expected = most == 0   ? "no arguments"
                                     : most == 1 ? "at most 1 argument"
                                                 : "at most " + std::to_string(most) + " arguments";
        throw_argument_error(signature, "expected " + expected + ", got " + std::to_string(num_positional));
    }
    for (Py_ssize_t i = 0; i < num_positional; ++i) values[static_cast<std::size_t>(i)] = args[i];
    const Py_ssize_t num_keywords = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t i = 0; i < num_keywords; ++i) {
        PyObject* name = PyTuple_GET_ITEM(keywords, i);
        PyObject*& value = values[place_of(signature, name)];
        if (value != nullptr) {
            throw_argument_error(signature, "got two values for " + py::repr(name).cast<std::string>());
        }
        value = args[num_positional + i];
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(signature.required); ++i) {
        const char* name = signature.names[i];
        if (name != nullptr && values[i] == nullptr) throw_argument_error(signature, name + std::string(" is missing"));
    }
    return values;
}

void add_method(const py::object& type, PyMethodDef& definition) {
    PyObject* descriptor = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &definition);
    if (descriptor == nullptr) throw py::error_already_set();
    type.attr(definition.ml_name) = py::reinterpret_steal<py::object>(descriptor);
}

}    // namespace fusedcell::bindings
