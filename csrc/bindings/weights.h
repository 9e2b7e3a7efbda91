// Arrays of Python's to a Stack and back.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "bindings/options.h"
#include "model/stack.h"

namespace fusedcell::bindings {

WeightType weight_type_from_name(const std::string& name);
std::string weight_type_name(WeightType type);
std::string kind_name(CellKind kind);

/// Packs one dict of arrays per layer and direction, under the names of CellWeights' members; `suffixes` complete them
/// in errors. With NAME_scale beside every weight NAME, weights are quantised already: floats that are whole numbers.
/// `options` are one a dict, or none.
std::shared_ptr<Stack> make_stack(const std::string& kind, const pybind11::list& cells,
                                  const std::vector<std::string>& suffixes, std::ptrdiff_t num_directions,
                                  const std::string& dtype, const std::string& isa,
                                  const std::vector<double>& input_scales, const std::vector<OptionsTuple>& options,
                                  bool reverse);

/// Throws what Python shows as a ValueError unless there are none, or one a layer that int8 can use.
std::vector<float> checked_input_scales(const std::vector<double>& scales, std::ptrdiff_t num_layers, WeightType type);

/// What make_stack takes as `cells`, float32, in new arrays that it would pack to the same bits.
pybind11::list arrays_of(const Stack& stack);

}    // namespace fusedcell::bindings
