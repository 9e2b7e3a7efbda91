#include "bindings/fast_method.h"

namespace fusedcell::bindings {

namespace py = pybind11;

PyObject* set_python_error() {
    try {
        throw;
    } catch (py::error_already_set& error) {
        error.restore();
    } catch (const py::builtin_exception& error) {
        error.set_error();
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
}

void add_method(const py::object& type, PyMethodDef& definition) {
    PyObject* descriptor = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &definition);
    if (descriptor == nullptr) throw py::error_already_set();
    type.attr(definition.ml_name) = py::reinterpret_steal<py::object>(descriptor);
}

}    // namespace fusedcell::bindings
