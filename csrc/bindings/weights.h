// Arrays of Python's to a Stack and back.
#pragma once

#include <pybind11/pybind11.h>

#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "bindings/instance.h"
#include "bindings/options.h"
#include "model/stack.h"

namespace fusedcell::bindings {

/// Throws what Python shows as a ValueError for a name that is none.
WeightType checked_weight_type(const std::string& name);

/// The types of one layer and direction, by the names of its matrices.
using Dtypes = std::map<std::string, std::string>;

/// The type of all matrices, or those of each layer and direction.
using DtypeArgument = std::variant<std::string, std::vector<Dtypes>>;

/// One a layer and direction, of which there are `num_cells`. Throws what Python shows as a ValueError.
std::vector<CellTypes> to_types(const DtypeArgument& dtype, std::size_t num_cells);

/// One a layer and direction, as to_types takes them.
pybind11::list dtypes_of(const Stack& stack);
pybind11::list densities_of(const Stack& stack);

/// Packs one dict of arrays per layer and direction, under the names of CellWeights' members; `suffixes` complete them
/// in errors. With NAME_scale beside every weight NAME, weights are quantised already: floats that are whole numbers.
/// `options` are one a dict, or none.
std::shared_ptr<Stack> make_stack(const std::string& kind_name, const pybind11::list& cells,
                                  const std::vector<std::string>& suffixes, std::ptrdiff_t num_directions,
                                  const DtypeArgument& dtype, const std::string& isa,
                                  const std::vector<double>& input_scales, const std::vector<OptionsTuple>& options,
                                  bool reverse);

/// What make_stack takes as `cells`, float32, in new arrays that it would pack to the same bits.
pybind11::list arrays_of(const Stack& stack);

}    // namespace fusedcell::bindings
