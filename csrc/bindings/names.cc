// What there is by name, and int8 inputs, for Python's side of checks and comparisons.
#include "model/names.h"

#include <pybind11/pybind11.h>

#include <string>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "cpu/dispatch.h"
#include "kernels/simd/float_mode.h"
#include "model/cell_options.h"
#include "pack/aligned_buffer.h"

namespace fusedcell::bindings {
namespace {

py::dict kinds() {
    py::dict all;
    for (std::size_t number = 0; number < num_kinds(); ++number) {
        const auto kind = static_cast<CellKind>(number);
        const CellOptions usual = usual_options(kind);
        py::tuple names(activations_of(kind));
        for (int i = 0; i < activations_of(kind); ++i) {
            names[static_cast<std::size_t>(i)] = name_of(usual.activations[i].kind);
        }
        all[name_of(kind)] = names;
    }
    return all;
}

void add_activation(py::dict& all, const char* name, int count) {
    static constexpr const char* kParameters[] = {"alpha", "beta"};
    py::tuple taken(count);
    for (int i = 0; i < count; ++i) taken[static_cast<std::size_t>(i)] = kParameters[i];
    all[name] = taken;
}

py::dict activations() {
    py::dict all;
#define FUSEDCELL_ACTIVATION(name, parameters) add_activation(all, #name, parameters);
#include "kernels/activations.inc"
    return all;
}

py::dict node_activations() {
    py::dict all = activations();
#define FUSEDCELL_NODE_ACTIVATION(name, parameters) add_activation(all, #name, parameters);
#include "kernels/activations.inc"
    return all;
}

py::tuple quantise(py::handle x, bool bounded, float scale, const std::string& isa, bool int16) {
    const KernelTable& table = select_tier(isa);
    const FloatArray input(x, "x");
    if (input.ndim() != 2) throw_shape_error("x", "(rows, size)", to_text(input.shape()));
    const std::ptrdiff_t size = input.dim(1);
    const std::ptrdiff_t planes = int16 ? 2 : 1;
    AlignedBuffer buffer(static_cast<std::size_t>(QuantisedInput::bytes(size, planes)));
    auto* q = reinterpret_cast<QuantisedInput*>(buffer.data());
    const InputScale::Rule rule = scale > 0.0F ? InputScale::kFixed
                                  : bounded    ? InputScale::kBounded
                                               : InputScale::kLargest;
    py::object values = new_array(input.shape());
    py::object scales = new_array({input.dim(0)});
    const ScopedFloatMode mode;
    for (std::ptrdiff_t row = 0; row < input.dim(0); ++row) {
        const QuantiseRow quantised{input.data() + row * size, q};
        (int16 ? table.quantise_int16 : table.quantise)(&quantised, 1, size, {rule, scale});
        data_of(scales)[row] = q->scale;
        for (std::ptrdiff_t k = 0; k < size; ++k) {
            const int low = int16 ? q->values[QuantisedInput::padded(size) + k] : 0;
            data_of(values)[row * size + k] = static_cast<float>(int16 ? 128 * q->values[k] + low : q->values[k]);
        }
    }
    return py::make_tuple(values, scales);
}

}    // namespace

void bind_names(py::module_& module) {
    module.def("kinds", &kinds, "Kinds of cells, each with the activations of PyTorch's formulas.");
    module.def("activations", &activations,
               "Activations of cells with options, each with which of alpha and beta it takes.");
    module.def("node_activations", &node_activations, "The same of those that nodes of models can have.");
    module.def(
        "quantise", &quantise, py::arg("x"), py::arg("bounded"), py::arg("scale") = 0.0F, py::arg("isa") = "",
        py::arg("int16") = false,
        "Rows as quantised weights see them, integers in floats and a scale each; 0 lets each row have its own scale.");
}

}    // namespace fusedcell::bindings
