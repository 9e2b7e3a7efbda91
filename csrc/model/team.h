// Threads that run one function together and wait for one another inside it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "kernels/simd/pause.h"
#include "model/checkpoint.h"

namespace fusedcell {

/// Lets other threads run for some tens of microseconds.
inline void nap() {
#if defined(_WIN32)
    std::this_thread::yield();    // whose sleep takes a millisecond or more
#else
    std::this_thread::sleep_for(std::chrono::microseconds(20));
#endif
}

/// Spins until ready() is true. When that takes long, which is when the thread that is waited for has lost its CPU, it
/// naps, so that others run in between. It does not yield: on a busy Linux a thread that yields has to wait until every
/// other one has had its turn, milliseconds each, and would do so at every step.
template <class Ready>
void spin_until(const Ready& ready) {
    using Clock = std::chrono::steady_clock;
    constexpr int kSpinsBetweenClockReads = 64;
    constexpr std::chrono::microseconds kSpin{30};
    const auto is_soon = [&] {
        for (int i = 0; i < kSpinsBetweenClockReads; ++i) {
            if (ready()) return true;
            Pause();
        }
        return false;
    };
    if (is_soon()) return;
    const auto deadline = Clock::now() + kSpin;
    while (!is_soon()) {
        if (Clock::now() >= deadline) nap();
    }
}

// Lets a known number of threads pass only together. Spins, and naps when it has spun for long. Once the
// checkpoint, where there is one, is stopped, nobody waits any more, and the barrier is not to be used again.
class Barrier {
public:
    void wait(int count, const Checkpoint* checkpoint);

private:
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<std::uint32_t> phase_{0};
};

/// Where the share `index` of `size` things begins that are dealt out in `count` shares as even as can be.
inline std::ptrdiff_t share_of(std::ptrdiff_t size, std::ptrdiff_t index, std::ptrdiff_t count) {
    return static_cast<std::ptrdiff_t>(std::int64_t{size} * index / count);
}

// One thread's place among those that share a piece of work.
struct TeamPart {
    int index = 0;
    int count = 1;
    Barrier* barrier = nullptr;
    Checkpoint* checkpoint = nullptr;

    /// Waits for the others. False if the run has been stopped: then it may not have waited, so this thread is to
    /// touch nothing that they share, and to return.
    [[nodiscard]] bool wait() const {
        if (count == 1) return true;    // which is told by pass()
        barrier->wait(count, checkpoint);
        return checkpoint == nullptr || !checkpoint->stopped();
    }

    /// Takes what this thread has done of the run since it last said so, in multiply-adds. False likewise.
    [[nodiscard]] bool pass(double operations) const {
        if (checkpoint == nullptr) return true;
        checkpoint->pass(operations);
        return !checkpoint->stopped();
    }
};

// The process's worker threads. They are made when first asked for, wait for work by spinning for a while and then
// asleep, and are never joined: a process may end while they sleep. A child of fork() has none and makes its own.
class Team {
public:
    /// Whether the workers of a team of `size` are spinning, so that calling them costs little.
    static bool is_awake(int size);

    /// Runs work(i) for i in [0, size) at the same time: 0 on this thread, the others on workers. Returns false and
    /// runs nothing if the workers are busy for another caller, or cannot be made. In a child that work(0) has forked
    /// it returns when that does, as there are no workers to wait for.
    template <class Work>
    static bool run(int size, Work& work) {
        return run_job(size, [](void* context, int index) { (*static_cast<Work*>(context))(index); }, &work);
    }

private:
    using Job = void (*)(void* context, int index);
    static bool run_job(int size, Job job, void* context);
};

}    // namespace fusedcell
