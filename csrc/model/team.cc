#include "model/team.h"

#include <array>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <exception>
#include <thread>

#include "model/forks.h"

#if !defined(_WIN32)
#include <csignal>
#endif

namespace fusedcell {
namespace {

// Long enough that a worker is still spinning when the next step of a stream comes, short enough to spare the CPU.
constexpr std::chrono::microseconds kSpinBeforeSleep{50};
constexpr int kSpinsBetweenClockReads = 64;
constexpr int kMostWorkers = 255;

// Where one worker waits.
struct Seat {
    alignas(64) std::atomic<std::uint32_t> ticket{0};    // of the last job; a new number is a new job
    std::atomic<bool> asleep{false};
    std::mutex mutex;
    std::condition_variable wake;

    void wait_for_job(std::uint32_t seen) {
        const auto deadline = std::chrono::steady_clock::now() + kSpinBeforeSleep;
        while (ticket.load(std::memory_order_acquire) == seen) {
            for (int i = 0; i < kSpinsBetweenClockReads; ++i) Pause();
            if (std::chrono::steady_clock::now() < deadline) continue;
            // Either this store is seen by call(), which then notifies, or call()'s ticket is seen here.
            std::unique_lock<std::mutex> lock(mutex);
            asleep.store(true);
            wake.wait(lock, [&] { return ticket.load() != seen; });
            asleep.store(false);
        }
    }

    void call() {
        ticket.fetch_add(1);
        if (!asleep.load()) return;
        const std::lock_guard<std::mutex> lock(mutex);
        wake.notify_one();
    }
};

struct Crew {
    const unsigned made_after = forks();
    std::atomic<bool> busy{false};    // its holder owns all that follows
    void (*job)(void* context, int index) = nullptr;
    void* context = nullptr;
    alignas(64) std::atomic<int> running{0};
    std::atomic<int> workers{0};
    std::array<std::unique_ptr<Seat>, kMostWorkers> seats;

    void work(int index) {
        Seat& seat = *seats[static_cast<std::size_t>(index - 1)];
        for (std::uint32_t seen = 0;; ++seen) {
            seat.wait_for_job(seen);
            job(context, index);
            running.fetch_sub(1, std::memory_order_release);
        }
    }

    /// Makes workers up to so many; false if the system refuses.
    bool grow(int wanted) {
#if !defined(_WIN32)
        // Signals are for the threads that the program knows of.
        sigset_t all;
        sigset_t before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
        bool made = true;
        try {
            for (int count = workers.load(); count < wanted; ++count) {
                seats[static_cast<std::size_t>(count)] = std::make_unique<Seat>();
                std::thread([this, count] { work(count + 1); }).detach();
                workers.store(count + 1);
            }
        } catch (const std::exception&) {
            made = false;
        }
#if !defined(_WIN32)
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
        return made;
    }
};

std::atomic<Crew*> current_crew{nullptr};

bool is_of_this_process(const Crew* crew) { return crew != nullptr && crew->made_after == forks(); }

// Crews are never deleted: workers use theirs until the process ends, and after fork() the parent's is of no use.
Crew& crew() {
    Crew* existing = current_crew.load();
    if (is_of_this_process(existing)) return *existing;
    auto made = std::make_unique<Crew>();
    return *(current_crew.compare_exchange_strong(existing, made.get()) ? made.release() : existing);
}

}    // namespace

void Barrier::wait(int count, const Checkpoint* checkpoint) {
    const std::uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
        arrived_.store(0, std::memory_order_relaxed);
        phase_.store(phase + 1, std::memory_order_release);
    } else {
        spin_until([&] {
            return phase_.load(std::memory_order_acquire) != phase || (checkpoint != nullptr && checkpoint->stopped());
        });
    }
}

bool Team::is_awake(int size) {
    const Crew* existing = current_crew.load();
    if (!is_of_this_process(existing) || existing->workers.load() < size - 1) return false;
    for (int i = 0; i < size - 1; ++i) {
        if (existing->seats[static_cast<std::size_t>(i)]->asleep.load(std::memory_order_relaxed)) return false;
    }
    return true;
}

bool Team::run_job(int size, Job job, void* context) {
    Crew& own = crew();
    if (own.busy.exchange(true, std::memory_order_acquire)) return false;
    const bool ready = size - 1 <= kMostWorkers && own.grow(size - 1);
    if (ready) {
        own.job = job;
        own.context = context;
        own.running.store(size - 1, std::memory_order_relaxed);
        for (int i = 0; i < size - 1; ++i) own.seats[static_cast<std::size_t>(i)]->call();
        job(context, 0);
        spin_until([&] { return own.running.load(std::memory_order_acquire) == 0 || own.made_after != forks(); });
    }
    own.busy.store(false, std::memory_order_release);
    return ready;
}

}    // namespace fusedcell
