// Instances of this module's classes that __init__ has not made: __new__ alone gives them, and a subclass's __init__
// can use them before it calls ours. pybind11 would pass functions memory that holds no object.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <utility>

#include "model/stack.h"

static_assert(PYBIND11_VERSION_MAJOR == 3,
              "fusedcell rests on internals of pybind11 3: where detail::instance keeps its C++ object "
              "(simple_value_holder[0]) and how detail::type_caster_base loads one (load_impl, load_value). "
              "Build with pybind11>=3,<4, or hold csrc/bindings against the other version's.");

namespace fusedcell::bindings {

/// Gives a class the answer that it cannot be pickled. Where there is none, pickle's first protocols make an instance
/// of the class of pybind11's that all its classes derive from, which ends the process.
inline void refuse_pickling(const pybind11::object& type) {
    const auto refuse = [](const pybind11::handle self) -> pybind11::object {
        throw pybind11::type_error(std::string("cannot pickle '") + Py_TYPE(self.ptr())->tp_name + "' object");
    };
    type.attr("__reduce__") = pybind11::cpp_function(refuse, pybind11::is_method(type), pybind11::name("__reduce__"));
}

[[noreturn]] inline void throw_not_initialised(const PyTypeObject* type) {
    throw pybind11::type_error(std::string(type->tp_name) + ": it was never initialised");
}

// A caster of pybind11's for arguments, self among them, that refuses such an instance.
template <class Caster>
class InitialisedCaster : public Caster {
public:
    bool load(pybind11::handle source, bool convert) {
        return this->template load_impl<InitialisedCaster>(source, convert);
    }
    void load_value(pybind11::detail::value_and_holder&& found) {
        if (found.value_ptr() == nullptr) throw_not_initialised(Py_TYPE(reinterpret_cast<PyObject*>(found.inst)));
        Caster::load_value(std::move(found));
    }
};

}    // namespace fusedcell::bindings

namespace pybind11::detail {

template <>
class type_caster<fusedcell::Node> : public fusedcell::bindings::InitialisedCaster<type_caster_base<fusedcell::Node>> {
};

template <>
class type_caster<std::shared_ptr<fusedcell::Node>>
    : public fusedcell::bindings::InitialisedCaster<
          copyable_holder_caster<fusedcell::Node, std::shared_ptr<fusedcell::Node>>> {};

template <>
class type_caster<fusedcell::Stack>
    : public fusedcell::bindings::InitialisedCaster<type_caster_base<fusedcell::Stack>> {};

template <>
class type_caster<std::shared_ptr<fusedcell::Stack>>
    : public fusedcell::bindings::InitialisedCaster<
          copyable_holder_caster<fusedcell::Stack, std::shared_ptr<fusedcell::Stack>>> {};

}    // namespace pybind11::detail
