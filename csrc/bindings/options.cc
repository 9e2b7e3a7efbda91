#include "bindings/options.h"

#include <pybind11/pybind11.h>

#include <cmath>

#include "kernels/simd/float_mode.h"
#include "model/cell_options.h"
#include "model/names.h"

namespace fusedcell::bindings {

Activation to_activation(const ActivationTuple& activation) {
    const auto& [name, alpha, beta] = activation;
    const std::optional<ActivationKind> kind = activation_from_name(name);
    if (!kind) throw pybind11::value_error("activations: there is no activation '" + name + "'");
    return {*kind, nearest_float(alpha), nearest_float(beta)};
}

CellOptions to_options(CellKind kind, const OptionsTuple& options) {
    const auto& [activations, clip, clip_before_h, input_forget] = options;
    const int count = activations_of(kind);
    if (activations.size() != static_cast<std::size_t>(count)) {
        throw pybind11::value_error("activations: expected " + std::to_string(count) + ", got " +
                                    std::to_string(activations.size()));
    }
    CellOptions result = usual_options(kind);
    for (int i = 0; i < count; ++i) result.activations[i] = to_activation(activations[static_cast<std::size_t>(i)]);
    if (clip) result.clip = nearest_float(*clip);
    result.clip_before_h = clip_before_h;
    result.input_forget = input_forget;
    return result;
}

std::vector<OptionsTuple> options_of(const Stack& stack) {
    std::vector<OptionsTuple> all;
    for (std::size_t cell = 0; cell < stack.num_cells(); ++cell) {
        const CellOptions& options = stack.options(cell);
        std::vector<ActivationTuple> activations;
        for (int i = 0; i < activations_of(stack.geometry().kind); ++i) {
            const Activation& activation = options.activations[i];
            activations.emplace_back(name_of(activation.kind), activation.alpha, activation.beta);
        }
        const std::optional<double> clip =
            std::isinf(options.clip) ? std::nullopt : std::optional<double>(options.clip);
        all.emplace_back(activations, clip, options.clip_before_h, options.input_forget);
    }
    return all;
}

}    // namespace fusedcell::bindings
