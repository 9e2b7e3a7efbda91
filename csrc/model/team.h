// Threads that run one function together and wait for one another inside it.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#include "kernels/simd/pause.h"

namespace fusedcell {

/// Spins until ready() is true. When that takes long, which is when the thread that is waited for has lost its CPU,
/// other threads may run in between.
template <class Ready>
void spin_until(const Ready& ready) {
    constexpr int kSpins = 200;
    for (int spins = 0; !ready(); ++spins) {
        if (spins < kSpins) {
            Pause();
        } else {
            std::this_thread::yield();
        }
    }
}

// Lets a known number of threads pass only together. Spins, and lets others run when it has spun for long.
class Barrier {
public:
    void wait(int count);

private:
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<std::uint32_t> phase_{0};
};

// One thread's place among those that share a piece of work.
struct TeamPart {
    int index = 0;
    int count = 1;
    Barrier* barrier = nullptr;

    void wait() const {
        if (count > 1) barrier->wait(count);
    }
};

// The process's worker threads. They are made when first asked for, wait for work by spinning for a while and then
// asleep, and are never joined: a process may end while they sleep. A child of fork() has none and makes its own.
class Team {
public:
    /// Whether the workers of a team of `size` are spinning, so that calling them costs little.
    static bool is_awake(int size);

    /// Runs work(i) for i in [0, size) at the same time: 0 on this thread, the others on workers. Returns false and
    /// runs nothing if the workers are busy for another caller, or cannot be made.
    template <class Work>
    static bool run(int size, Work& work) {
        return run_job(size, [](void* context, int index) { (*static_cast<Work*>(context))(index); }, &work);
    }

private:
    using Job = void (*)(void* context, int index);
    static bool run_job(int size, Job job, void* context);
};

}    // namespace fusedcell
