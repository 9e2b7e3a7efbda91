#include "model/forks.h"

#include <atomic>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace fusedcell {
namespace {

std::atomic<unsigned> count{0};

#if !defined(_WIN32)
// Before main, so that no fork comes before this.
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { count.fetch_add(1); });
#endif

}    // namespace

unsigned forks() { return count.load(std::memory_order_relaxed); }

}    // namespace fusedcell
