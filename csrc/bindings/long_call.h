// Calls that give up the GIL. In a long one on Python's main thread, Ctrl-C need not wait for its end.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <optional>

#include "bindings/bindings.h"
#include "bindings/gil.h"
#include "kernels/simd/float_mode.h"
#include "model/checkpoint.h"

namespace fusedcell::bindings {

// Gives up the GIL for its lifetime, but for the moments in which it lets Python's signal handlers run.
class LongCall {
public:
    /// With the GIL. A call of so few multiply-adds that no signal could seem late has no checkpoint.
    explicit LongCall(double operations);
    ~LongCall() { take_gil(thread_); }
    LongCall(const LongCall&) = delete;
    LongCall& operator=(const LongCall&) = delete;

    /// For the run, or null. It is stopped where a handler raises, which is then Python's error.
    Checkpoint* checkpoint() { return checkpoint_ ? &*checkpoint_ : nullptr; }

private:
    static bool handle_signals(void* self);

    std::optional<Checkpoint> checkpoint_;
    FloatMode callers_mode_;
    std::chrono::steady_clock::time_point handled_;
    PyThreadState* thread_;
};

/// Runs `run(checkpoint)` without the GIL if it is worth giving it up for so many multiply-adds, else with it and
/// without a checkpoint. Throws what a signal handler raised, typically KeyboardInterrupt.
template <class Run>
void run_for(double operations, const Run& run) {
    if (operations < kOperationsToReleaseGil) {
        run(nullptr);
        return;
    }
    bool stopped = false;
    {
        LongCall call(operations);
        run(call.checkpoint());
        stopped = call.checkpoint() != nullptr && call.checkpoint()->stopped();
    }
    if (stopped) throw pybind11::error_already_set();
}

}    // namespace fusedcell::bindings
