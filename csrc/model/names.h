// What kinds of cells, types of weights and activations are called, in files and in Python.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/kernel_api.h"
#include "model/geometry.h"

namespace fusedcell {

/// How many kinds of cells there are, of which 0 is the first.
std::size_t num_kinds();

const char* name_of(CellKind kind);
const char* name_of(WeightType type);
const char* name_of(ActivationKind kind);

std::optional<CellKind> kind_from_name(std::string_view name);
std::optional<WeightType> weight_type_from_name(std::string_view name);
/// Of those that cells can have, and of those that nodes of models can have, which are these and more.
std::optional<ActivationKind> activation_from_name(std::string_view name);
std::optional<ActivationKind> node_activation_from_name(std::string_view name);

/// Every name, in the order of their list: "Relu, Tanh, ...".
std::string weight_type_names();
std::string activation_names();
std::string node_activation_names();

/// Whether this build has it for nodes of models.
bool is_kept(ActivationKind kind);

/// How many of alpha and beta an activation takes, in this order.
int parameters_of(ActivationKind kind);

}    // namespace fusedcell
