// A whole model's file to a Network.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "load/model_axes.h"
#include "model/model.h"

namespace fusedcell {

struct LoadedModel {
    std::shared_ptr<const Network> model;
    bool batch_first = false;    // sequences are (B, T, ...)
    ModelAxes axes;              // of those that have other axes
};

/// `isa` as for select_tier. Throws LoadError, which does not name the file, and std::bad_alloc.
LoadedModel load_network(const unsigned char* data, std::size_t size, const std::string& isa);

/// Whether a file says that it is for load_model.
bool holds_model(const unsigned char* data, std::size_t size);

}    // namespace fusedcell
