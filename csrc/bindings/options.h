// Cell options between Python and the library, as plain tuples; python/fusedcell/_options.py has checked them.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/instance.h"
#include "model/stack.h"

namespace fusedcell::bindings {

/// Name, alpha, beta.
using ActivationTuple = std::tuple<std::string, double, double>;
/// Activations (f, f g or f g h), clip, clip_before_h, input_forget.
using OptionsTuple = std::tuple<std::vector<ActivationTuple>, std::optional<double>, bool, bool>;

Activation to_activation(const ActivationTuple& activation);
CellOptions to_options(CellKind kind, const OptionsTuple& options);

/// Those of every layer and direction, in the order of packing.
std::vector<OptionsTuple> options_of(const Stack& stack);

}    // namespace fusedcell::bindings
