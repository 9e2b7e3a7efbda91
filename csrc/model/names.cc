#include "model/names.h"

#include <cstddef>
#include <iterator>

#include "kernels/kept.h"

namespace fusedcell {
namespace {

constexpr const char* kKinds[] = {"rnn_tanh", "rnn_relu", "lstm", "gru_reset_after", "gru_reset_before"};

constexpr const char* kWeightTypes[] = {
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) #name,
#include "kernels/weight_types.inc"
};

constexpr const char* kCellActivations[] = {
#define FUSEDCELL_ACTIVATION(name, parameters) #name,
#include "kernels/activations.inc"
};

constexpr const char* kActivations[] = {
#define FUSEDCELL_ACTIVATION(name, parameters) #name,
#define FUSEDCELL_NODE_ACTIVATION(name, parameters) #name,
#include "kernels/activations.inc"
};

constexpr bool kKept[] = {
#define FUSEDCELL_ACTIVATION(name, parameters) keeps_activation(#name),
#define FUSEDCELL_NODE_ACTIVATION(name, parameters) keeps_activation(#name),
#include "kernels/activations.inc"
};

constexpr int kParameters[] = {
#define FUSEDCELL_ACTIVATION(name, parameters) parameters,
#define FUSEDCELL_NODE_ACTIVATION(name, parameters) parameters,
#include "kernels/activations.inc"
};

// The tables are in the order of their enumerations.
template <class Value, std::size_t Size>
std::optional<Value> find(const char* const (&names)[Size], std::string_view name) {
    for (std::size_t i = 0; i < Size; ++i) {
        if (name == names[i]) return static_cast<Value>(i);
    }
    return std::nullopt;
}

template <std::size_t Size>
std::string joined(const char* const (&names)[Size]) {
    std::string text;
    for (const char* name : names) text += (text.empty() ? "" : ", ") + std::string(name);
    return text;
}

}    // namespace

std::size_t num_kinds() { return std::size(kKinds); }

const char* name_of(CellKind kind) { return kKinds[static_cast<std::size_t>(kind)]; }
const char* name_of(WeightType type) { return kWeightTypes[static_cast<std::size_t>(type)]; }
const char* name_of(ActivationKind kind) { return kActivations[static_cast<std::size_t>(kind)]; }

std::optional<CellKind> kind_from_name(std::string_view name) { return find<CellKind>(kKinds, name); }
std::optional<WeightType> weight_type_from_name(std::string_view name) { return find<WeightType>(kWeightTypes, name); }
std::optional<ActivationKind> activation_from_name(std::string_view name) {
    return find<ActivationKind>(kCellActivations, name);
}
std::optional<ActivationKind> node_activation_from_name(std::string_view name) {
    return find<ActivationKind>(kActivations, name);
}

std::string weight_type_names() { return joined(kWeightTypes); }
std::string activation_names() { return joined(kCellActivations); }
std::string node_activation_names() { return joined(kActivations); }

bool is_kept(ActivationKind kind) { return kKept[static_cast<std::size_t>(kind)]; }

int parameters_of(ActivationKind kind) { return kParameters[static_cast<std::size_t>(kind)]; }

}    // namespace fusedcell
