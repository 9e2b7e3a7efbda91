#include "model/stream.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace fusedcell {

StreamState::StreamState(std::shared_ptr<const Node> node, std::ptrdiff_t batch, int num_threads)
    : node_(std::move(node)), num_threads_(num_threads), states_(node_->shape(), batch) {
    node_->reserve(1, batch, workspace_);
}

StreamState::StreamState(const StreamState& other)
    : node_(other.node_), num_threads_(other.num_threads_), states_(other.states_) {
    node_->reserve(1, states_.batch(), workspace_);
}

void StreamState::step(const float* x, float* y) {
    if (states_.batch() == 1 && (num_threads_ == 1 || node_->is_small(1))) {
        node_->step(x, y, states_.h(), states_.c(), workspace_);
    } else {
        process(x, y, 1);
    }
}

void StreamState::process(const float* x, float* y, std::ptrdiff_t steps) {
    const NodeShape& shape = node_->shape();
    process(sequence_view(x, steps, states_.batch(), shape.input_size, false),
            sequence_view(y, steps, states_.batch(), shape.output_size, false), steps);
}

void StreamState::process(const SequenceView<const float>& x, const SequenceView<float>& y, std::ptrdiff_t steps,
                          Checkpoint* checkpoint) {
    const bool can_stop = checkpoint != nullptr;
    const auto copy = [can_stop](const float* state, std::size_t size) {
        return can_stop ? std::vector<float>(state, state + size) : std::vector<float>{};
    };
    const std::vector<float> h_before = copy(states_.h(), states_.h_floats());
    const std::vector<float> c_before = copy(states_.c(), states_.c_floats());
    NodeRun run{steps, states_.batch(), x, y, {states_.h(), states_.h(), states_.c()}, nullptr};
    run.checkpoint = checkpoint;
    run.has_room = steps == 1;
    node_->run(run, workspace_, num_threads_);
    if (can_stop && checkpoint->stopped()) {
        std::copy(h_before.begin(), h_before.end(), states_.h());
        std::copy(c_before.begin(), c_before.end(), states_.c());
    }
}

}    // namespace fusedcell
