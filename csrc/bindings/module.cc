#define FUSEDCELL_IMPORTS_ARRAY_API
#include "bindings/arrays.h"
#include "bindings/bindings.h"

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
    module.doc() = "Kernels, layers and streams of fusedcell. Use the package's own names instead.";
    module.attr("__version__") = FUSEDCELL_VERSION;
    if (_import_array() < 0) throw pybind11::error_already_set();
    fusedcell::bindings::bind_runtime(module);
    fusedcell::bindings::bind_stack(module);
    fusedcell::bindings::bind_stream(module);
    fusedcell::bindings::bind_step_many(module);
    fusedcell::bindings::bind_stream_pool(module);
}
