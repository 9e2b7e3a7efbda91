// Layers' files of fusedcell.save, and the headers of others' safetensors files.
#include "bindings/files.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "load/load.h"
#include "load/load_model.h"
#include "load/safetensors.h"

namespace fusedcell::bindings {
namespace {

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
    module.def("holds_model", [](const py::bytes& data) { return read_bytes(data, &holds_model); });
    module.def("safetensors_header", &header_of, py::arg("start"), py::arg("file_size"));
}

}    // namespace fusedcell::bindings
