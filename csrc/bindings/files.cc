// Files of fusedcell.save, and the headers of others' safetensors files. Both come as bytes, which nobody can change
// while they are read without the GIL.
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/gil.h"
#include "fusedcell/fusedcell.h"
#include "load/load.h"
#include "load/safetensors.h"

namespace fusedcell::bindings {
namespace {

// What `read` returns of the bytes, without the GIL meanwhile. What it throws of a file is a ValueError.
template <class Read>
auto read_bytes(const py::bytes& bytes, const Read& read) {
    const std::string_view view(bytes);
    try {
        const GilRelease release;
        return read(reinterpret_cast<const unsigned char*>(view.data()), view.size());
    } catch (const UnsupportedError& error) {
        PyObject* type = call_python([] {
            PyObject* module = PyImport_ImportModule("fusedcell.errors");
            PyObject* found = module == nullptr ? nullptr : PyObject_GetAttrString(module, "UnsupportedError");
            Py_XDECREF(module);
            return found;
        });
        if (type != nullptr) py::set_error(py::reinterpret_steal<py::object>(type), error.what());
    } catch (const LoadError& error) {
        py::set_error(PyExc_ValueError, error.what());
    }
    throw py::error_already_set();
}

py::object state_array(const std::vector<float>& values, const LoadedLayer& layer, std::ptrdiff_t size) {
    const Geometry& geometry = layer.stack->geometry();
    py::object array = new_array({geometry.num_layers * geometry.num_directions, layer.initial_rows, size});
    std::copy(values.begin(), values.end(), data_of(array));
    PyArray_CLEARFLAGS(reinterpret_cast<PyArrayObject*>(array.ptr()), NPY_ARRAY_WRITEABLE);
    return array;
}

py::tuple load(const py::bytes& data, const std::string& isa) {
    const LoadedLayer layer =
        read_bytes(data, [&](const unsigned char* bytes, std::size_t size) { return load_layer(bytes, size, isa); });
    const Geometry& geometry = layer.stack->geometry();
    py::list state;
    if (!layer.initial_h.empty()) state.append(state_array(layer.initial_h, layer, geometry.output_size()));
    if (!layer.initial_c.empty()) state.append(state_array(layer.initial_c, layer, geometry.hidden_size));
    return py::make_tuple(layer.stack, layer.is_cell, layer.batch_first, py::tuple(state));
}

py::tuple header_of(const py::bytes& start, std::uint64_t file_size) {
    const Header header = read_bytes(
        start, [&](const unsigned char* bytes, std::size_t size) { return parse_header(bytes, size, file_size); });
    py::list entries;
    for (const Entry& entry : header.entries) {
        entries.append(
            py::make_tuple(entry.name, entry.dtype, py::tuple(py::cast(entry.shape)), entry.begin, entry.end));
    }
    return py::make_tuple(entries, header.description.has_value());
}

}    // namespace

void bind_files(py::module_& module) {
    module.def("load_layer", &load, py::arg("data"), py::arg("isa") = "");
    module.def("safetensors_header", &header_of, py::arg("start"), py::arg("file_size"));
}

}    // namespace fusedcell::bindings
