// A stream: the small state of one sequence, or of a batch of them, on shared weights.
#pragma once

#include <cstddef>
#include <memory>

#include "model/node.h"
#include "model/states.h"

namespace fusedcell {

class StreamState {
public:
    /// Starts at zero. The node has streams. Steps use up to `num_threads` threads, see Node::run.
    StreamState(std::shared_ptr<const Node> node, std::ptrdiff_t batch, int num_threads = 1);
    /// A copy that goes on independently.
    StreamState(const StreamState& other);
    StreamState& operator=(const StreamState&) = delete;

    /// One step: x (B, I), y (B, O). Allocates nothing. y may be x only if both have the same shape.
    void step(const float* x, float* y);
    /// Makes room for `process` of up to so many steps, which then allocates nothing on one thread.
    void reserve(std::ptrdiff_t steps) { node_->reserve(steps, states_.batch(), workspace_); }
    /// T steps: x (T, B, I), y (T, B, O); the same bits as T calls of step. If `checkpoint` is given and stops them,
    /// the state is what it was before the first.
    void process(const SequenceView<const float>& x, const SequenceView<float>& y, std::ptrdiff_t steps,
                 Checkpoint* checkpoint = nullptr);
    /// The same of contiguous arrays.
    void process(const float* x, float* y, std::ptrdiff_t steps);

    const Node& node() const { return *node_; }
    std::ptrdiff_t batch() const { return states_.batch(); }
    States& states() { return states_; }

private:
    std::shared_ptr<const Node> node_;
    int num_threads_;
    States states_;
    Workspace workspace_;
};

}    // namespace fusedcell
