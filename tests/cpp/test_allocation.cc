// A step of many streams allocates nothing: of a pool from its very first call, of scattered rows in memory that fits.
// test_real_time.cc looks at streams by themselves.
#include <cstdlib>
#if defined(_WIN32)
#include <malloc.h>
#endif
#include <memory>
#include <new>
#include <vector>

#include "check.h"
#include "cpu/dispatch.h"
#include "model/stream.h"
#include "model/stream_pool.h"
#include "testing/random_stack.h"

namespace {

long allocations = 0;

#if defined(_WIN32)
void* allocate(std::size_t size, std::size_t alignment) { return _aligned_malloc(size, alignment); }
void release(void* memory) { _aligned_free(memory); }
#else
void* allocate(std::size_t size, std::size_t alignment) {
    void* memory = nullptr;
    return posix_memalign(&memory, alignment, size) == 0 ? memory : nullptr;
}
void release(void* memory) { std::free(memory); }
#endif

void* counted(std::size_t size, std::size_t alignment) {
    ++allocations;
    void* memory = allocate(size, alignment);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

}    // namespace

void* operator new(std::size_t size) { return counted(size, sizeof(void*)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
    return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }

namespace fusedcell::test {
namespace {

// Selections of any number of rows, after one of the most.
void check_scattered(const Geometry& geometry, WeightType type, const KernelTable& tier, bool general) {
    constexpr std::ptrdiff_t kRows = Stack::kMostRows + 10;
    Random random;
    const auto stack = random_stack(geometry, tier, type, general);
    std::vector<std::unique_ptr<StreamState>> streams;
    std::vector<RowState> rows;
    for (std::ptrdiff_t i = 0; i < kRows; ++i) {
        streams.push_back(std::make_unique<StreamState>(stack, 1));
        rows.push_back(streams.back()->states().row(0));
    }
    const std::vector<float> x = random.floats(kRows * geometry.input_size);
    std::vector<float> y(static_cast<std::size_t>(kRows * geometry.output_size()));
    Workspace workspace;
    stack->reserve(1, Stack::kMostRows, workspace);
    const long before = allocations;
    for (const std::ptrdiff_t count : {kRows, std::ptrdiff_t{1}, std::ptrdiff_t{7}, Stack::kMostRows, kRows}) {
        stack->step_rows(x.data(), y.data(), rows.data() + (kRows - count), count, workspace);
    }
    CHECK(allocations == before);
}

// Nothing is allocated once the pool is there, and all that it holds is counted.
void check_pool(const Geometry& geometry, WeightType type, const KernelTable& tier, bool general) {
    constexpr std::ptrdiff_t kCapacity = Stack::kMostRows + 10;
    Random random;
    const auto stack = random_stack(geometry, tier, type, general);
    const std::vector<float> x = random.floats(kCapacity * geometry.input_size);
    std::vector<float> y(static_cast<std::size_t>(kCapacity * geometry.output_size()));
    std::vector<std::ptrdiff_t> slots;
    slots.reserve(kCapacity);
    StreamPool pool(stack, kCapacity);
    const std::size_t nbytes = pool.nbytes();
    const long before = allocations;
    for (int round = 0; round < 3; ++round) {
        while (!pool.slots().is_full()) slots.push_back(pool.join());
        pool.step(slots, x.data(), y.data());
        while (slots.size() > static_cast<std::size_t>(round)) {
            pool.states().reset_row(slots.back());
            pool.leave(slots.back());
            slots.pop_back();
        }
        pool.step(slots, x.data(), y.data());
    }
    CHECK(allocations == before);
    CHECK(pool.nbytes() == nbytes);
}

}    // namespace
}    // namespace fusedcell::test

int main() {
    using namespace fusedcell;
    using namespace fusedcell::test;
    for (const KernelTable* tier : available_tiers()) {
        for (const CellKind kind : kKinds) {
            for (const WeightType type : kWeightTypes) {
                for (const bool general : {false, true}) {
                    const Geometry geometry{kind, 6, 17, kind == CellKind::kLstm ? 7 : 0, 3, 1};
                    check_scattered(geometry, type, *tier, general);
                    check_pool(geometry, type, *tier, general);
                }
            }
        }
    }
    return 0;
}
