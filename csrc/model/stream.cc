#include "model/stream.h"

#include <algorithm>
#include <utility>

namespace fusedcell {

StreamState::StreamState(std::shared_ptr<const Stack> stack, std::ptrdiff_t batch, int num_threads)
    : stack_(std::move(stack)), batch_(batch), num_threads_(num_threads) {
    const Geometry& geometry = stack_->geometry();
    const auto rows = static_cast<std::size_t>(geometry.num_layers * batch);
    h_.resize(rows * static_cast<std::size_t>(geometry.output_size()));
    if (geometry.has_cell_state()) c_.resize(rows * static_cast<std::size_t>(geometry.hidden_size));
    stack_->reserve(1, batch_, workspace_);
}

StreamState::StreamState(const StreamState& other)
    : stack_(other.stack_),
      batch_(other.batch_),
      num_threads_(other.num_threads_),
      h_(other.h_),
      c_(other.c_),
      initial_h_(other.initial_h_),
      initial_c_(other.initial_c_) {
    stack_->reserve(1, batch_, workspace_);
}

void StreamState::step(const float* x, float* y) {
    if (batch_ == 1 && (num_threads_ == 1 || stack_->is_small(1, 1))) {
        stack_->step(x, y, h(), c(), workspace_);
    } else {
        process(x, y, 1);
    }
}

void StreamState::process(const float* x, float* y, std::ptrdiff_t steps) {
    const Geometry& geometry = stack_->geometry();
    const std::ptrdiff_t outputs = geometry.output_size();
    stack_->run({steps,
                 batch_,
                 {x, batch_ * geometry.input_size, geometry.input_size},
                 {y, batch_ * outputs, outputs},
                 h(),
                 h(),
                 c(),
                 nullptr},
                workspace_, num_threads_);
}

void StreamState::start_from(const float* h, const float* c) {
    initial_h_.assign(h, h + h_.size());
    if (!c_.empty()) initial_c_.assign(c, c + c_.size());
    h_ = initial_h_;
    c_ = initial_c_;
}

void StreamState::reset_row(std::ptrdiff_t row) {
    const Geometry& geometry = stack_->geometry();
    const auto reset = [&](std::vector<float>& state, const std::vector<float>& initial, std::ptrdiff_t size) {
        for (std::ptrdiff_t layer = 0; layer < geometry.num_layers; ++layer) {
            const std::ptrdiff_t start = (layer * batch_ + row) * size;
            if (initial.empty()) {
                std::fill_n(state.begin() + start, size, 0.0F);
            } else {
                std::copy_n(initial.begin() + start, size, state.begin() + start);
            }
        }
    };
    reset(h_, initial_h_, geometry.output_size());
    if (!c_.empty()) reset(c_, initial_c_, geometry.hidden_size);
}

}    // namespace fusedcell
