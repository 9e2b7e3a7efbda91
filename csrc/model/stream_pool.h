// A fixed number of streams in memory that is all there from the start.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "model/node.h"
#include "model/slots.h"
#include "model/states.h"

namespace fusedcell {

class StreamPool {
public:
    /// `capacity` free slots. The node has streams. Steps use up to `num_threads` threads, see Node::run.
    StreamPool(std::shared_ptr<const Node> node, std::ptrdiff_t capacity, int num_threads = 1);

    const Node& node() const { return *node_; }
    /// Row s is slot s. They start, and join, at what start_from() says.
    States& states() { return states_; }
    const Slots& slots() const { return slots_; }

    /// A free slot, of which there must be one, with its state reset.
    std::ptrdiff_t join();
    void leave(std::ptrdiff_t slot) { slots_.leave(slot); }
    /// One step of joined slots, all different: x (N, I), y (N, O).
    void step(const std::vector<std::ptrdiff_t>& slots, const float* x, float* y);

    /// Bytes of all that it will ever use.
    std::size_t nbytes() const;

private:
    std::shared_ptr<const Node> node_;
    int num_threads_;
    States states_;
    Slots slots_;
    std::vector<RowState> rows_;
    Workspace workspace_;
};

}    // namespace fusedcell
