#include "model/stream.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace fusedcell {

StreamState::StreamState(std::shared_ptr<const Stack> stack, std::ptrdiff_t batch, int num_threads)
    : stack_(std::move(stack)), num_threads_(num_threads), states_(stack_->geometry(), batch) {
    stack_->reserve(1, batch, workspace_);
}

StreamState::StreamState(const StreamState& other)
    : stack_(other.stack_), num_threads_(other.num_threads_), states_(other.states_) {
    stack_->reserve(1, states_.batch(), workspace_);
}

void StreamState::step(const float* x, float* y) {
    if (states_.batch() == 1 && (num_threads_ == 1 || stack_->is_small(1))) {
        stack_->step(x, y, states_.h(), states_.c(), workspace_);
    } else {
        process(x, y, 1);
    }
}

void StreamState::process(const float* x, float* y, std::ptrdiff_t steps) {
    const Geometry& geometry = stack_->geometry();
    process(sequence_view(x, steps, states_.batch(), geometry.input_size, false),
            sequence_view(y, steps, states_.batch(), geometry.output_size(), false), steps);
}

void StreamState::process(const SequenceView<const float>& x, const SequenceView<float>& y, std::ptrdiff_t steps,
                          Checkpoint* checkpoint) {
    const bool can_stop = checkpoint != nullptr;
    const auto copy = [can_stop](const float* state, std::size_t size) {
        return can_stop ? std::vector<float>(state, state + size) : std::vector<float>{};
    };
    const std::vector<float> h_before = copy(states_.h(), states_.h_floats());
    const std::vector<float> c_before = copy(states_.c(), states_.c_floats());
    StackRun run{steps, states_.batch(), x, y, {states_.h(), states_.h(), states_.c()}, nullptr};
    run.checkpoint = checkpoint;
    stack_->run(run, workspace_, num_threads_);
    if (can_stop && checkpoint->stopped()) {
        std::copy(h_before.begin(), h_before.end(), states_.h());
        std::copy(c_before.begin(), c_before.end(), states_.c());
    }
}

}    // namespace fusedcell
