#include "model/stream.h"

#include <utility>

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
    if (states_.batch() == 1 && (num_threads_ == 1 || stack_->is_small(1, 1))) {
        stack_->step(x, y, states_.h(), states_.c(), workspace_);
    } else {
        process(x, y, 1);
    }
}

void StreamState::process(const float* x, float* y, std::ptrdiff_t steps) {
    const std::ptrdiff_t batch = states_.batch();
    const std::ptrdiff_t inputs = stack_->geometry().input_size;
    const std::ptrdiff_t outputs = stack_->geometry().output_size();
    stack_->run({steps,
                 batch,
                 {x, batch * inputs, inputs},
                 {y, batch * outputs, outputs},
                 {states_.h(), states_.h(), states_.c()},
                 nullptr},
                workspace_, num_threads_);
}

}    // namespace fusedcell
