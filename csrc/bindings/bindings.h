// The parts of the extension module; module.cc calls each of them.
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/instance.h"

namespace fusedcell::bindings {

void bind_files(pybind11::module_& module);
void bind_model(pybind11::module_& module);
void bind_model_stream(pybind11::module_& module);
void bind_names(pybind11::module_& module);
void bind_runtime(pybind11::module_& module);
void bind_stack(pybind11::module_& module);
void bind_step_many(pybind11::module_& module);
void bind_stream(pybind11::module_& module);
void bind_stream_pool(pybind11::module_& module);
void bind_training(pybind11::module_& module);

// Multiply-adds from which a call is long enough (some 5 us) that giving up the GIL, about 0.1 us, pays.
constexpr double kOperationsToReleaseGil = 1 << 18;

}    // namespace fusedcell::bindings
