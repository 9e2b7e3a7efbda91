// Kernels touch no float that is not theirs: every buffer of a caller ends right before, or begins right after, a page
// that faults on any access.
#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "check.h"
#include "cpu/dispatch.h"
#include "kernels/simd/float_mode.h"
#include "model/stream.h"
#include "testing/random_stack.h"

namespace fusedcell::test {
namespace {

#if defined(_WIN32)

std::size_t page_size() {
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwPageSize;
}
char* map_pages(std::size_t bytes) {
    return static_cast<char*>(VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE));
}
bool forbid(char* memory, std::size_t bytes) {
    DWORD before = 0;
    return VirtualProtect(memory, bytes, PAGE_NOACCESS, &before) != 0;
}
void unmap(char* memory, std::size_t) { VirtualFree(memory, 0, MEM_RELEASE); }

#else

std::size_t page_size() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }
char* map_pages(std::size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<char*>(memory);
}
bool forbid(char* memory, std::size_t bytes) { return mprotect(memory, bytes, PROT_NONE) == 0; }
void unmap(char* memory, std::size_t bytes) { munmap(memory, bytes); }

#endif

// Memory between two pages that fault, which is used again and again, as to map and to protect it takes longer than a
// run.
class GuardedPages {
public:
    static constexpr std::size_t kBytes = std::size_t{1} << 18;

    GuardedPages() : mapped_(kBytes + 2 * page_size()), memory_(map_pages(mapped_)) {
        CHECK(memory_ != nullptr);
        CHECK(forbid(memory_, page_size()));
        CHECK(forbid(memory_ + page_size() + kBytes, page_size()));
    }
    ~GuardedPages() { unmap(memory_, mapped_); }
    GuardedPages(const GuardedPages&) = delete;
    GuardedPages& operator=(const GuardedPages&) = delete;
    char* begin() { return memory_ + page_size(); }
    char* end() { return begin() + kBytes; }

private:
    std::size_t mapped_;
    char* memory_;
};

std::vector<std::unique_ptr<GuardedPages>> unused_pages;

class GuardedFloats {
public:
    GuardedFloats(std::ptrdiff_t size, bool at_end) {
        if (unused_pages.empty()) unused_pages.push_back(std::make_unique<GuardedPages>());
        pages_ = std::move(unused_pages.back());
        unused_pages.pop_back();
        const std::size_t bytes = static_cast<std::size_t>(size) * sizeof(float);
        CHECK(bytes <= GuardedPages::kBytes);
        data_ = reinterpret_cast<float*>(at_end ? pages_->end() - bytes : pages_->begin());
        std::fill_n(data_, size, 0.0F);
    }
    ~GuardedFloats() { unused_pages.push_back(std::move(pages_)); }
    GuardedFloats(const GuardedFloats&) = delete;
    GuardedFloats& operator=(const GuardedFloats&) = delete;
    float* data() { return data_; }

private:
    std::unique_ptr<GuardedPages> pages_;
    float* data_;
};

void run_guarded(const Stack& stack, std::ptrdiff_t batch, bool at_end) {
    constexpr std::ptrdiff_t kSteps = 2;
    const Geometry& geometry = stack.geometry();
    const std::ptrdiff_t width = geometry.num_directions * geometry.output_size();
    const std::ptrdiff_t states = geometry.num_layers * geometry.num_directions * batch;
    GuardedFloats x(kSteps * batch * geometry.input_size, at_end);
    GuardedFloats y(kSteps * batch * width, at_end);
    GuardedFloats h(states * geometry.output_size(), at_end);
    GuardedFloats c(states * geometry.hidden_size, at_end);
    Workspace workspace;
    stack.run({kSteps,
               batch,
               {x.data(), batch * geometry.input_size, geometry.input_size},
               {y.data(), batch * width, width},
               {h.data(), h.data(), geometry.has_cell_state() ? c.data() : nullptr},
               nullptr},
              workspace);
    for (std::ptrdiff_t i = 0; i < kSteps * batch * width; ++i) CHECK(y.data()[i] == y.data()[i]);
}

// Rows whose states lie each in memory of its own, beside the same rows in one block.
void step_scattered(const std::shared_ptr<const Stack>& stack, std::ptrdiff_t num_rows, bool at_end) {
    const Geometry& geometry = stack->geometry();
    const std::ptrdiff_t outputs = geometry.output_size();
    const std::ptrdiff_t h_floats = geometry.num_layers * outputs;
    const std::ptrdiff_t c_floats = geometry.has_cell_state() ? geometry.num_layers * geometry.hidden_size : 0;
    GuardedFloats x(num_rows * geometry.input_size, at_end);
    GuardedFloats y(num_rows * outputs, at_end);
    Random random;
    std::generate_n(x.data(), num_rows * geometry.input_size, [&] { return random(); });
    StreamState together(stack, num_rows);
    std::vector<std::unique_ptr<GuardedFloats>> states;
    std::vector<RowState> rows;
    for (std::ptrdiff_t row = 0; row < num_rows; ++row) {
        states.push_back(std::make_unique<GuardedFloats>(h_floats, at_end));
        float* h = states.back()->data();
        if (c_floats > 0) states.push_back(std::make_unique<GuardedFloats>(c_floats, at_end));
        rows.push_back({h, c_floats > 0 ? states.back()->data() : nullptr, 1});
    }
    Workspace workspace;
    std::vector<float> expected(static_cast<std::size_t>(num_rows * outputs));
    for (int step = 0; step < 2; ++step) {
        stack->step_rows(x.data(), y.data(), rows.data(), num_rows, workspace);
        together.step(x.data(), expected.data());
        CHECK(std::memcmp(y.data(), expected.data(), expected.size() * sizeof(float)) == 0);
    }
}

// All that is run between guard pages with one kind, size and type of weights; returns how much that was. Stacks are
// made once, as an emulated CPU takes longer to make than to run them.
int run_all(const KernelTable& kernels, CellKind kind, std::ptrdiff_t hidden, WeightType type, bool general) {
    const auto stack_of = [&](std::ptrdiff_t proj, std::ptrdiff_t directions) {
        return random_stack({kind, 5, hidden, proj, 2, directions}, kernels, type, general);
    };
    const auto both_ways = stack_of(0, 2);
    const auto projected = kind == CellKind::kLstm && hidden > 1 ? stack_of(hidden - 1, 1) : nullptr;
    const auto scattered = hidden == 5 || hidden == 33 ? stack_of(0, 1) : nullptr;
    int runs = 0;
    for (const std::ptrdiff_t batch : {1, 2, 7, 13}) {
        for (const bool at_end : {false, true}) {
            run_guarded(*both_ways, batch, at_end);
            if (projected) run_guarded(*projected, batch, at_end);
            if (scattered) step_scattered(scattered, batch, at_end);
            runs += 1 + (projected ? 1 : 0) + (scattered ? 1 : 0);
        }
    }
    return runs;
}

// A matrix is sparse from 32,768 weights on.
int run_sparse(const KernelTable& kernels, CellKind kind, WeightType type) {
    int runs = 0;
    for (const bool general : {false, true}) {
        const std::ptrdiff_t hidden = general ? 197 : 190;
        const auto stack = random_stack({kind, 137, hidden, 0, 1, 1}, kernels, type, general, true);
        CHECK(stack->densities(0).weight_hh < 1.0);
        for (const std::ptrdiff_t batch : {1, 2, 9}) {
            for (const bool at_end : {false, true}) run_guarded(*stack, batch, at_end);
            runs += 2;
        }
    }
    return runs;
}

// Each part as many weights, as every row kernel takes at least as many as it needs.
void run_row_kernel(RowKernel kernel, bool over_parts, const RowShape& shape, bool at_end) {
    const std::ptrdiff_t size = shape.parts * shape.size;
    const std::ptrdiff_t outputs = over_parts ? shape.size : size;
    GuardedFloats x(size, at_end);
    GuardedFloats y(outputs, at_end);
    GuardedFloats weight(size, at_end);
    GuardedFloats bias(outputs, at_end);
    for (GuardedFloats* floats : {&x, &weight}) std::fill_n(floats->data(), size, 0.5F);
    std::fill_n(bias.data(), outputs, 0.25F);
    const ScopedFloatMode mode;
    kernel(x.data(), y.data(), shape, {weight.data(), bias.data(), 1e-5F});
    for (std::ptrdiff_t i = 0; i < outputs; ++i) CHECK(y.data()[i] == y.data()[i]);
}

int run_row_kernels(const KernelTable& kernels) {
    const std::vector<RowKernel> over_parts = {kernels.add,      kernels.multiply,  kernels.max_pool, kernels.mean_pool,
                                               kernels.sum_pool, kernels.depthwise, kernels.glu};
    int runs = 0;
    for (std::ptrdiff_t size = 1; size <= 35; ++size) {
        for (const bool at_end : {false, true}) {
#define FUSEDCELL_ROW_KERNEL(name, Function, is_kept)                                                            \
    run_row_kernel(kernels.name, std::count(over_parts.begin(), over_parts.end(), kernels.name) != 0, {2, size}, \
                   at_end);                                                                                      \
    ++runs;
#include "kernels/kernels.inc"
        }
    }
    return runs;
}

}    // namespace
}    // namespace fusedcell::test

int main() {
    using namespace fusedcell;
    using namespace fusedcell::test;
    int runs = 0;
    for (const KernelTable* tier : available_tiers()) {
        runs += run_row_kernels(*tier);
        for (const CellKind kind : kKinds) {
            for (const WeightType type : {WeightType::float32, WeightType::int8}) runs += run_sparse(*tier, kind, type);
            for (const std::ptrdiff_t hidden : {1, 3, 4, 5, 8, 15, 16, 17, 33, 65}) {
                for (const WeightType type : kWeightTypes) {
                    // What several blocks need of memory depends on the type of inputs alone.
                    if (hidden == 65 && type != WeightType::float32 && type != WeightType::int8) continue;
                    for (const bool general : {false, true}) runs += run_all(*tier, kind, hidden, type, general);
                }
            }
        }
    }
    std::printf("%d runs between guard pages\n", runs);
    return 0;
}
