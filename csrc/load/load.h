// A layer's file to a Stack.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "model/stack.h"

namespace fusedcell {

struct LoadedLayer {
    std::shared_ptr<Stack> stack;
    bool is_cell = false;
    bool batch_first = false;    // sequences are (B, T, ...)
    // What calls without a state start from, (L * D, rows, size); empty: zeros.
    std::vector<float> initial_h, initial_c;
    std::ptrdiff_t initial_rows = 0;
};

/// `isa` as for select_tier. Throws LoadError, which does not name the file, and std::bad_alloc.
LoadedLayer load_layer(const unsigned char* data, std::size_t size, const std::string& isa);

}    // namespace fusedcell
