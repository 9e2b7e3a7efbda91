// Where each value and state of a model lies in a sequence's memory.
//
// A sequence's floats are, for each value, room for `capacity` rows, and for each layer h and c. Rows of a value follow
// each other. In front of its first row are as many rows of zeros as any window's left padding needs, and when the rows
// have ended, as many follow as any right padding needs, so that no window is a special case. When the room is used up,
// the rows that are still needed move to its front.
//
// A sequence's counts are, for each value, the row at the front of its room (negative: a zero before the first) and one
// past its last row; for each node, its results so far; and for each output, the rows that were handed out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/model.h"

namespace fusedcell {

struct ModelPlan {
    struct Value {
        std::ptrdiff_t offset = 0;    // floats
        std::int64_t capacity = 0;    // rows
        std::int64_t before = 0;      // rows of zeros
        std::int64_t after = 0;
        std::int64_t most_new = 0;             // rows that come at a time
        std::vector<std::size_t> readers{};    // nodes
    };
    struct State {
        std::ptrdiff_t h = 0;    // offsets, floats
        std::ptrdiff_t c = 0;
    };

    /// For up to `block` rows of the inputs at a time. Throws std::invalid_argument where they would be too many to
    /// keep, and std::bad_alloc where memory could not be addressed.
    ModelPlan(const Network& model, std::int64_t block, bool is_whole);

    /// The first row of a value that any node still needs, at most one past its last. `rows` of each value and
    /// `results` of each node so far.
    std::int64_t first_needed(const Network& model, std::size_t value, const std::int64_t* rows,
                              const std::int64_t* results) const;

    std::vector<Value> values;
    std::vector<State> states;          // by node
    std::ptrdiff_t state_offset = 0;    // of the first layer's states, behind all values
    std::ptrdiff_t floats = 0;
    std::size_t num_counts;
    bool is_whole;
};

}    // namespace fusedcell
