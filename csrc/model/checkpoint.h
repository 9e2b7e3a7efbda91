// How the caller of a long run ends it early: between two steps, every so many of them, the run asks whether to go on.
#pragma once

#include <atomic>
#include <thread>

#include "model/forks.h"

namespace fusedcell {

// Of one run, and of all its threads. Made on the thread that starts the run.
class Checkpoint {
public:
    /// Called by the thread that started the run, in the kernels' floating-point mode; false ends the run. It must not
    /// throw. It is asked every so many multiply-adds: by default, after tens of microseconds to tens of milliseconds.
    using GoOn = bool (*)(void* context);

    Checkpoint(GoOn go_on, void* context, double operations_between = 1 << 23)
        : go_on_(go_on), context_(context), operations_between_(operations_between) {}

    /// A thread of the run has done so many multiply-adds more.
    void pass(double operations) {
        if (caller_ != std::this_thread::get_id()) return;
        passed_ += operations;
        if (passed_ < operations_between_) return;
        passed_ = 0;
        const bool go_on = go_on_(context_);
        lost_threads_ = go_on && shared_ && forks() != forks_before_;
        if (!go_on || lost_threads_) stopped_.store(true, std::memory_order_relaxed);
    }

    /// The run is shared out among threads from here on. A child that is forked while it is asked has none of the
    /// others, and cannot go on with their work half done: there the run is stopped.
    void share() {
        shared_ = true;
        forks_before_ = forks();
    }
    /// Whether that has stopped the run.
    bool lost_threads() const { return lost_threads_; }
    /// The run begins again, on one thread.
    void begin_alone() {
        shared_ = lost_threads_ = false;
        stopped_.store(false, std::memory_order_relaxed);
    }

    bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

private:
    const GoOn go_on_;
    void* const context_;
    const double operations_between_;
    const std::thread::id caller_ = std::this_thread::get_id();
    double passed_ = 0;
    bool shared_ = false;
    bool lost_threads_ = false;
    unsigned forks_before_ = 0;
    std::atomic<bool> stopped_{false};
};

}    // namespace fusedcell
