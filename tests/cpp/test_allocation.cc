// A step of a stream allocates nothing, from its very first call.
#include <cstdlib>
#include <new>

#include "check.h"
#include "cpu/dispatch.h"
#include "model/stream.h"
#include "testing/random_stack.h"

namespace {

long allocations = 0;

void* counted(std::size_t size, std::size_t alignment) {
    ++allocations;
    void* memory = nullptr;
    if (posix_memalign(&memory, alignment, size) != 0) throw std::bad_alloc();
    return memory;
}

}    // namespace

void* operator new(std::size_t size) { return counted(size, sizeof(void*)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
    return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace fusedcell::test {
namespace {

void check_steps(const Geometry& geometry, WeightType type, const KernelTable& tier, std::ptrdiff_t batch,
                 bool general) {
    Random random;
    const auto stack = random_stack(geometry, tier, type, general);
    StreamState stream(stack, batch);
    const std::vector<float> x = random.floats(batch * geometry.input_size);
    std::vector<float> y(static_cast<std::size_t>(batch * geometry.output_size()));
    const long before = allocations;
    for (int step = 0; step < 100; ++step) stream.step(x.data(), y.data());
    CHECK(allocations == before);
    StreamState copy(stream);
    CHECK(allocations > before);
    const long after_copy = allocations;
    copy.step(x.data(), y.data());
    CHECK(allocations == after_copy);
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
                    check_steps({kind, 6, 17, 0, 3, 1}, type, *tier, 1, general);
                    check_steps({kind, 6, 17, kind == CellKind::kLstm ? 7 : 0, 3, 1}, type, *tier, 5, general);
                }
            }
        }
    }
    return 0;
}
