// How arrays of a model's inputs and outputs are arranged where it is not the default. Who runs a Network takes no
// notice: rows are the same in any case.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "load/json.h"
#include "model/model.h"

namespace fusedcell {

constexpr std::int64_t kBatchAxis = -1;
constexpr std::int64_t kTimeAxis = -2;

/// By name, of each axis one of these two, or a number of features; a row's features are in C order of the numbers.
using ModelAxes = std::map<std::string, std::vector<std::int64_t>>;

/// Of a file's "axes". Throws LoadError.
ModelAxes read_axes(const json::Value& value, const Network& model);

}    // namespace fusedcell
