// A step is real-time safe: from its first call on it allocates nothing, takes no lock and makes no system call, and
// once it is warm it meets no page fault; so does a block for which a stream has room. On every tier, for every kind
// of cell and type of weights.
#include <dlfcn.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <string>

#include "check.h"
#include "cpu/dispatch.h"
#include "files.h"
#include "fusedcell/fusedcell.h"
#include "model/stream.h"
#include "testing/random_stack.h"

namespace {

// Of whatever this program calls, the C++ library's own functions too: these definitions come before glibc's.
std::atomic<long> allocations{0};
std::atomic<long> locks{0};

}    // namespace

extern "C" {

// glibc's own functions under the names that it has for who replaces them.
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* memory);

void* malloc(std::size_t size) {
    ++allocations;
    return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
    ++allocations;
    return __libc_calloc(count, size);
}
void* realloc(void* memory, std::size_t size) {
    ++allocations;
    return __libc_realloc(memory, size);
}
void* memalign(std::size_t alignment, std::size_t size) {
    ++allocations;
    return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
    *memory = memalign(alignment, size);
    return *memory == nullptr ? ENOMEM : 0;
}
void free(void* memory) {
    if (memory != nullptr) ++allocations;
    __libc_free(memory);
}

#define FUSEDCELL_COUNT_LOCK(name, Object)                                                        \
    int name(Object* object) {                                                                    \
        static const auto original = reinterpret_cast<int (*)(Object*)>(dlsym(RTLD_NEXT, #name)); \
        ++locks;                                                                                  \
        return original(object);                                                                  \
    }
FUSEDCELL_COUNT_LOCK(pthread_mutex_lock, pthread_mutex_t)
FUSEDCELL_COUNT_LOCK(pthread_mutex_trylock, pthread_mutex_t)
FUSEDCELL_COUNT_LOCK(pthread_rwlock_rdlock, pthread_rwlock_t)
FUSEDCELL_COUNT_LOCK(pthread_rwlock_wrlock, pthread_rwlock_t)
FUSEDCELL_COUNT_LOCK(sem_wait, sem_t)
#undef FUSEDCELL_COUNT_LOCK

}    // extern "C"

namespace fusedcell::test {
namespace {

constexpr std::ptrdiff_t kBlock = 5;

// A stream and its input: steps and a block, again and again.
class Call {
public:
    Call(const Geometry& geometry, WeightType type, const KernelTable& tier, std::ptrdiff_t batch, bool general)
        : stream_(random_stack(geometry, tier, type, general), batch) {
        stream_.reserve(kBlock);
        Random random;
        x_ = random.floats(kBlock * batch * geometry.input_size);
        y_.resize(static_cast<std::size_t>(kBlock * batch * geometry.output_size()));
    }

    void operator()(int times) {
        for (int i = 0; i < times; ++i) {
            stream_.step(x_.data(), y_.data());
            stream_.process(x_.data(), y_.data(), kBlock);
            for (std::ptrdiff_t row = 0; i == 1 && row < stream_.batch(); ++row) stream_.states().reset_row(row);
        }
    }

private:
    StreamState stream_;
    std::vector<float> x_, y_;
};

// Sequences that go through a whole model: rows one by one and in blocks, their end, and the next ones.
class ModelCall {
public:
    ModelCall(const Model& model, std::size_t batch)
        : stream_(model, batch, kBlock), x_(kBlock * batch, 1.0F), tokens_(kBlock * batch, 2), y_(4 * kBlock * batch) {}

    void operator()(int times) {
        const Input inputs[2] = {x_.data(), tokens_.data()};
        float* outputs = y_.data();
        for (int i = 0; i < times; ++i) {
            stream_.process(inputs, 1, &outputs);
            if (i == 1) stream_.reset(0);
            stream_.process(inputs, kBlock, &outputs);
            stream_.process(inputs, 1, &outputs);
            if (i == 0) continue;
            stream_.flush(&outputs);
            stream_.reset();
        }
    }

private:
    ModelStream stream_;
    std::vector<float> x_;
    std::vector<std::int32_t> tokens_;
    std::vector<float> y_;
};

/// How a child ends that may do nothing but read, write and exit: its status, or nothing where the kernel does not
/// offer that, as an emulator does not.
template <class Work>
std::optional<int> status_without_system_calls(Work& work) {
    constexpr int kNotOffered = 77;
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) _exit(kNotOffered);
        work();
        syscall(SYS_exit, 0);    // exit_group, which _exit is, counts as another call
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == kNotOffered) return std::nullopt;
    return status;
}

long page_faults() {
    rusage usage{};
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return usage.ru_minflt + usage.ru_majflt;
}

// The kernel may take a page away by itself, to move it or to merge it; a step that touches new memory does so always.
template <class Call>
void check_no_page_faults(Call& call) {
    constexpr int kTries = 5;
    for (int attempt = 0; attempt < kTries; ++attempt) {
        const long before = page_faults();
        call(10);
        if (page_faults() == before) return;
    }
    CHECK(!"a warm step meets no page fault");
}

// The measures see what they are there for.
void check_measures(bool seccomp) {
    const long allocations_before = allocations;
    void* volatile memory = std::malloc(1);
    std::free(memory);
    delete new std::string(100, 'x');    // which compilers may leave out, but not its characters
    CHECK(allocations >= allocations_before + 4);
    const long locks_before = locks;
    std::mutex mutex;
    mutex.lock();
    mutex.unlock();
    CHECK(locks == locks_before + 1);
    const long faults_before = page_faults();
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    std::vector<char> fresh(1024 * page);
    CHECK(page_faults() > faults_before);
    auto system_call = [] { getppid(); };
    if (!seccomp) return;
    const int status = *status_without_system_calls(system_call);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

template <class Call>
void check(Call& call, bool seccomp) {
    const long allocations_before = allocations;
    const long locks_before = locks;
    call(3);
    CHECK(allocations == allocations_before);
    CHECK(locks == locks_before);
    if (seccomp) check_no_page_faults(call);
}

// The second is large enough for the way through W and R together, which a single row takes through what no near cache
// holds.
std::vector<Geometry> geometries_of(CellKind kind) {
    std::vector<Geometry> geometries = {{kind, 6, 17, 0, 3, 1}, {kind, 33, 260, 0, 1, 1}};
    if (kind == CellKind::kLstm) geometries.push_back({kind, 6, 17, 7, 3, 1});
    return geometries;
}

}    // namespace
}    // namespace fusedcell::test

int main() {
    using namespace fusedcell;
    using namespace fusedcell::test;
    auto nothing = [] {};
    const bool seccomp = status_without_system_calls(nothing).has_value();
    if (!seccomp) std::puts("no seccomp, as under an emulator: system calls and page faults are not looked at");
    check_measures(seccomp);

    int calls = 0;
    const std::string file = small_model();
    for (const std::string& isa : isas()) {
        for (const std::size_t batch : {1, 3}) {
            ModelCall call(load_model(file.data(), file.size(), isa), batch);
            auto first_calls = [&] { call(3); };
            if (seccomp) CHECK(status_without_system_calls(first_calls) == 0);
            check(call, seccomp);
            ++calls;
        }
    }
    for (const KernelTable* tier : available_tiers()) {
        for (const CellKind kind : kKinds) {
            for (const WeightType type : kWeightTypes) {
                for (const bool general : {false, true}) {
                    for (const Geometry& geometry : geometries_of(kind)) {
                        for (const std::ptrdiff_t batch : {1, 5}) {
                            if (batch > 1 && geometry.num_layers == 1) continue;    // which only a single row takes
                            Call call(geometry, type, *tier, batch, general);
                            auto first_calls = [&] { call(3); };
                            if (seccomp) CHECK(status_without_system_calls(first_calls) == 0);
                            check(call, seccomp);
                            ++calls;
                        }
                    }
                }
            }
        }
    }
    std::printf("%d streams without an allocation, a lock%s\n", calls,
                seccomp ? ", a system call or, once warm, a page fault" : "");
    return 0;
}
