#include "cpu/available.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace fusedcell {
namespace {

#if defined(__linux__)

// CPUs that a quota of microseconds in each period comes to, rounded down, or `otherwise` where there is no quota.
int cpus_of_quota(const std::string& quota, double period, int otherwise) {
    char* end = nullptr;
    const double microseconds = std::strtod(quota.c_str(), &end);
    if (end == quota.c_str() || microseconds <= 0 || period <= 0) return otherwise;
    return static_cast<int>(std::clamp(microseconds / period, 1.0, static_cast<double>(otherwise)));
}

// Linux, Documentation/admin-guide/cgroup-v2.rst, cpu.max; cgroup-v1: scheduler/sched-bwc.rst.
int detect() {
    int cpus = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) cpus = std::max(1, CPU_COUNT(&mask));
    std::string quota;
    double period = 0;
    if (std::ifstream("/sys/fs/cgroup/cpu.max") >> quota >> period) return cpus_of_quota(quota, period, cpus);
    if ((std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> quota) &&
        (std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period)) {
        return cpus_of_quota(quota, period, cpus);
    }
    return cpus;
}

#else

int detect() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

#endif

}    // namespace

int available_cpus() {
    // Without a lock, which a child of fork() would find held by a thread that it does not have.
    static std::atomic<int> known{0};
    int cpus = known.load(std::memory_order_relaxed);
    if (cpus == 0) {
        cpus = detect();
        known.store(cpus, std::memory_order_relaxed);
    }
    return cpus;
}

}    // namespace fusedcell
