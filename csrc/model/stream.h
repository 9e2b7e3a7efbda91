// A stream: the small state of one sequence, or of a batch of them, on shared weights.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "model/stack.h"

namespace fusedcell {

class StreamState {
public:
    /// Starts at zero. The stack must have one direction. Steps use up to `num_threads` threads, see Stack::run.
    StreamState(std::shared_ptr<const Stack> stack, std::ptrdiff_t batch, int num_threads = 1);
    /// A copy that goes on independently.
    StreamState(const StreamState& other);
    StreamState& operator=(const StreamState&) = delete;

    /// One step: x (B, I), y (B, P). Allocates nothing. y may be x only if both have the same shape.
    void step(const float* x, float* y);
    /// T steps: x (T, B, I), y (T, B, P); the same bits as T calls of step.
    void process(const float* x, float* y, std::ptrdiff_t steps);
    /// Makes h (L, B, P) and c (L, B, H) the state to start from, now and after a reset. c is null without a cell
    /// state.
    void start_from(const float* h, const float* c);
    /// Sets the state of one batch row to what it starts from.
    void reset_row(std::ptrdiff_t row);

    const Stack& stack() const { return *stack_; }
    std::ptrdiff_t batch() const { return batch_; }
    float* h() { return h_.data(); }                           // (L, B, P)
    float* c() { return c_.empty() ? nullptr : c_.data(); }    // (L, B, H)

private:
    std::shared_ptr<const Stack> stack_;
    std::ptrdiff_t batch_;
    int num_threads_;
    std::vector<float> h_;
    std::vector<float> c_;
    std::vector<float> initial_h_;    // empty: zeros
    std::vector<float> initial_c_;
    Workspace workspace_;
};

}    // namespace fusedcell
