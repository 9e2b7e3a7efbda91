#define FUSEDCELL_IMPORTS_ARRAY_API
#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "cpu/dispatch.h"

// Without the GIL too: weights never change, a thread has its own workspace, and a stream refuses a second caller.
PYBIND11_MODULE(core, module, pybind11::mod_gil_not_used()) {
    module.doc() = "Kernels, layers and streams of fusedcell. Use the package's own names instead.";
    module.attr("__version__") = FUSEDCELL_VERSION;
    if (_import_array() < 0) throw pybind11::error_already_set();
    // Found now and by one thread: a child of fork() would wait for ever for another that was finding them.
    fusedcell::available_tiers();
    fusedcell::bindings::bind_files(module);
    fusedcell::bindings::bind_names(module);
    fusedcell::bindings::bind_runtime(module);
    fusedcell::bindings::bind_stack(module);
    fusedcell::bindings::bind_stream(module);
    fusedcell::bindings::bind_model(module);
    fusedcell::bindings::bind_model_stream(module);
    fusedcell::bindings::bind_step_many(module);
    fusedcell::bindings::bind_stream_pool(module);
    fusedcell::bindings::bind_training(module);
}

// What Python calls. Not every way of making a subinterpreter asks modules whether they can be loaded in one, and
// pybind11 would wait for ever in some of them for the GIL that it holds.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "fusedcell runs in the main interpreter alone, not in a subinterpreter");
        return nullptr;
    }
    return PyInit_core();
}
