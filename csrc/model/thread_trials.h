// Whether threads have been paying lately.
//
// A plan of run_stack.cc knows what threads should gain, but not whether the CPUs are there: another process, or
// another guest of the same host, may hold the one that a worker needs, and then every meeting waits for it. So now and
// then a run takes one thread, to see how long that is, and where threads took longer they stay away, for twice as many
// runs each time that happens again.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <utility>

namespace fusedcell {

// What runs that are compared with each other have in common.
struct RunShape {
    const void* stack = nullptr;
    std::ptrdiff_t steps = 0;
    double rows = 0;    // of all steps

    bool operator==(const RunShape& other) const {
        return stack == other.stack && steps == other.steps && rows == other.rows;
    }
};

// Of runs of one shape.
class ThreadTrial {
public:
    using Duration = std::chrono::steady_clock::duration;

    ThreadTrial() = default;
    explicit ThreadTrial(const RunShape& shape) : shape_(shape) {}
    const RunShape& shape() const { return shape_; }

    /// Whether the run that comes should take one thread. The first takes all it may, as it could be the only one.
    bool wants_one_thread() {
        if (pause_ > 0) {
            --pause_;
            return true;
        }
        return runs_++ % kRunsPerTiming == 1;
    }

    /// A run took one thread, whoever wanted that; meanwhile the others may have gone to sleep.
    void one_thread_ran() { settling_ = true; }

    void one_thread_took(Duration time) {
        alone_ = time;
        one_thread_ran();
    }

    void threads_took(Duration time) {
        const bool settling = std::exchange(settling_, false);
        if (alone_ == Duration{} || settling) return;
        if (time > alone_) {
            pause_ = next_pause_;
            if (next_pause_ < kLongestPause) next_pause_ *= 2;
        } else if (next_pause_ > 1) {
            next_pause_ /= 2;
        }
    }

private:
    static constexpr int kRunsPerTiming = 64;
    static constexpr int kLongestPause = 1024;

    RunShape shape_;
    Duration alone_{};    // zero: not known yet
    unsigned runs_ = 0;
    int pause_ = 0;    // runs for which threads still stay away
    int next_pause_ = 1;
    bool settling_ = false;    // the next run of threads has to wake them, and is not judged by that
};

// The trials of the last few shapes.
class ThreadTrials {
public:
    ThreadTrial& of(const RunShape& shape) {
        for (ThreadTrial& trial : trials_) {
            if (trial.shape() == shape) return trial;
        }
        ThreadTrial& oldest = trials_[next_++ % trials_.size()];
        oldest = ThreadTrial(shape);
        return oldest;
    }

private:
    std::array<ThreadTrial, 8> trials_;
    std::size_t next_ = 0;
};

}    // namespace fusedcell
