// Methods of pybind11's classes that bypass its conversion of arguments, which takes longer than a small step.
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/instance.h"

namespace fusedcell::bindings {

/// The C++ object of an instance of a class that is final and has no base: pybind11 keeps it in the first slot.
template <class T>
T& instance_of(PyObject* self) {
    auto* instance = reinterpret_cast<pybind11::detail::instance*>(self);
    auto* object = static_cast<T*>(instance->simple_value_holder[0]);
    if (object == nullptr) throw_not_initialised(Py_TYPE(self));
    return *object;
}

/// What pybind11 does for functions that it calls: the exception in hand becomes Python's. Returns null.
PyObject* set_python_error();

void add_method(const pybind11::object& type, PyMethodDef& definition);

}    // namespace fusedcell::bindings
