// Methods of pybind11's classes that bypass its conversion of arguments, which takes longer than a small step.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <exception>

#include "bindings/instance.h"

namespace fusedcell::bindings {

/// The C++ object of an instance of a class that has no base: pybind11 keeps it in the first slot, but where a subclass
/// of Python's has further bases of pybind11's.
template <class T>
T& instance_of(PyObject* self) {
    auto* instance = reinterpret_cast<pybind11::detail::instance*>(self);
    if (!instance->simple_layout) throw pybind11::type_error("expected an instance without further bases");
    auto* object = static_cast<T*>(instance->simple_value_holder[0]);
    if (object == nullptr) throw_not_initialised(Py_TYPE(self));
    return *object;
}

/// What pybind11 does for functions that it calls: the exception in hand becomes Python's. Returns null.
PyObject* set_python_error();

// How a method is called.
struct Signature {
    const char* text;        // as in "step(x, out=None)", for errors
    const char* names[3];    // of its arguments; null where there are fewer
    Py_ssize_t required;     // so many of them
};

/// A call's arguments in the order of their names; null where none was given.
using Arguments = std::array<PyObject*, 3>;

/// Of METH_FASTCALL | METH_KEYWORDS. TypeError that begins with the signature.
Arguments read_arguments(const Signature& signature, PyObject* const* args, Py_ssize_t num_positional,
                         PyObject* keywords);

template <const Signature& kSignature, pybind11::object (*kMethod)(pybind11::handle self, const Arguments&)>
PyObject* call_method(PyObject* self, PyObject* const* args, Py_ssize_t num_positional, PyObject* keywords) {
    try {
        return kMethod(self, read_arguments(kSignature, args, num_positional, keywords)).release().ptr();
    } catch (const std::exception&) {    // a thread that is being ended is not caught
        return set_python_error();
    }
}

/// `doc` begins with the signature, as PyMethodDef has it.
template <const Signature& kSignature, pybind11::object (*kMethod)(pybind11::handle self, const Arguments&)>
PyMethodDef fast_method(const char* name, const char* doc) noexcept {
    return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call_method<kSignature, kMethod>)),
            METH_FASTCALL | METH_KEYWORDS, doc};
}

/// `definition` must live as long as the module.
void add_method(const pybind11::object& type, PyMethodDef& definition);

}    // namespace fusedcell::bindings
