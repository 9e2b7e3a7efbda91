// A step in one pass is the step in two: the same bits, wherever a tier has a kernel for it.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/dispatch.h"
#include "model/stream.h"
#include "testing/random_stack.h"

namespace fusedcell::test {
namespace {

int steps_in_one_pass = 0;

// Stands in for a kernel, to know that it ran.
template <auto kType, auto kKernel>
struct Counted {
    static inline StepKernel kernel = nullptr;
    static void run(const PackedMatrix& input, const PackedMatrix& recurrent, const StepRow& row, bool backward) {
        ++steps_in_one_pass;
        kernel(input, recurrent, row, backward);
    }
    static void replace_in(KernelTable& table) {
        StepKernel& step = table.*kType.*kKernel;
        kernel = step;
        if (step != nullptr) step = &run;
    }
};

template <auto kType>
void count_steps(KernelTable& table) {
#define FUSEDCELL_STEP_KERNEL(name, Operation) Counted<kType, &WeightKernels::name>::replace_in(table);
#include "kernels/kernels.inc"
}

void leave_out_steps(WeightKernels& kernels) {
#define FUSEDCELL_STEP_KERNEL(name, Operation) kernels.name = nullptr;
#include "kernels/kernels.inc"
}

bool has_steps(const KernelTable& tier, CellKind kind, WeightType type) {
    const std::string isa = tier.isa;
    // Sums of both halves of an input of 16 bits take the registers of AVX-512.
    const bool has_registers = type != WeightType::int8_int16 || isa == "avx512vnni";
    const bool has_vectors = isa != "scalar" && isa != "vfpv4";
    return has_vectors && kind != CellKind::kGruResetBefore && has_registers;
}

// The sign and payload of a NaN are the CPU's.
bool same_bits(const float* a, const float* b, std::ptrdiff_t size) {
    for (std::ptrdiff_t i = 0; i < size; ++i) {
        if (std::isnan(a[i]) ? !std::isnan(b[i]) : std::memcmp(a + i, b + i, sizeof(float)) != 0) return false;
    }
    return true;
}

struct Tables {
    KernelTable one_pass;
    KernelTable two_passes;

    explicit Tables(const KernelTable& tier) : one_pass(tier), two_passes(tier) {
#define FUSEDCELL_WEIGHT_TYPE(name, Weights)   \
    count_steps<&KernelTable::name>(one_pass); \
    leave_out_steps(two_passes.name);
#include "kernels/weight_types.inc"
        // Steps of zeros are test_zeros.cc's.
        one_pass.list_nonzeros = [](const float*, std::ptrdiff_t, std::uint16_t*, NonzeroInput*) { return false; };
    }
};

// Inputs and states that have rules of their own: zeros, what is not finite, and states beyond what a cell makes.
float special(int step, std::ptrdiff_t i, float x) {
    switch (step) {
        case 2: return 0.0F;
        case 3: return i == 0 ? std::numeric_limits<float>::infinity() : x;
        case 6: return i == 0 ? std::numeric_limits<float>::quiet_NaN() : x;
        default: return x;
    }
}

void compare(const Tables& tables, const Geometry& geometry, WeightType type, bool expected) {
    constexpr int kSteps = 9;
    Random random;
    StreamState one(random_stack(geometry, tables.one_pass, type), 1);
    StreamState two(random_stack(geometry, tables.two_passes, type), 1);
    const std::ptrdiff_t hidden = geometry.hidden_size;
    std::vector<float> x(static_cast<std::size_t>(geometry.input_size));
    std::vector<float> y(static_cast<std::size_t>(hidden));
    std::vector<float> expected_y(y.size());
    steps_in_one_pass = 0;
    for (int step = 0; step < kSteps; ++step) {
        for (std::size_t i = 0; i < x.size(); ++i) {
            x[i] = special(step, static_cast<std::ptrdiff_t>(i), 3.0F * random());
        }
        if (step == 4 || step == 7) {    // from a state of its own, at first out of bounds
            for (std::size_t i = 0; i < one.states().h_floats(); ++i) {
                one.states().h()[i] = two.states().h()[i] = (step == 4 ? 5.0F : 0.5F) * random();
            }
            for (std::size_t i = 0; i < one.states().c_floats(); ++i) {
                one.states().c()[i] = two.states().c()[i] = random();
            }
        }
        one.step(x.data(), y.data());
        two.step(x.data(), expected_y.data());
        CHECK(same_bits(y.data(), expected_y.data(), hidden));
        CHECK(same_bits(one.states().h(), two.states().h(), static_cast<std::ptrdiff_t>(one.states().h_floats())));
        CHECK(same_bits(one.states().c(), two.states().c(), static_cast<std::ptrdiff_t>(one.states().c_floats())));
    }
    CHECK(steps_in_one_pass == (expected ? kSteps * geometry.num_layers : 0));
}

// Of y that is x, the first block of h would be there before W has read it all.
void in_place_there_are_two(const Tables& tables, CellKind kind, WeightType type) {
    const std::ptrdiff_t size = 40;
    StreamState one(random_stack({kind, size, size, 0, 1, 1}, tables.one_pass, type), 1);
    StreamState two(random_stack({kind, size, size, 0, 1, 1}, tables.two_passes, type), 1);
    Random random;
    std::vector<float> x = random.floats(size);
    std::vector<float> y(x.size());
    steps_in_one_pass = 0;
    for (int step = 0; step < 3; ++step) {
        two.step(x.data(), y.data());
        one.step(x.data(), x.data());
        CHECK(same_bits(x.data(), y.data(), size));
    }
    CHECK(steps_in_one_pass == 0);
}

int run_tier(const KernelTable& tier) {
    const Tables tables(tier);
    int runs = 0;
    for (const CellKind kind : kKinds) {
        for (const WeightType type : kWeightTypes) {
            const bool expected = has_steps(tier, kind, type);
            const auto compare_size = [&](std::ptrdiff_t inputs, std::ptrdiff_t hidden, std::ptrdiff_t layers) {
                compare(tables, {kind, inputs, hidden, 0, layers, 1}, type, expected);
                ++runs;
            };
            if (!expected) {    // the table has no kernel to compare: the answer is two passes' own
                compare_size(17, 33, 2);
                continue;
            }
            // Every remainder of vectors, panels and groups, of either size.
            for (std::ptrdiff_t size = 1; size <= 33; ++size) {
                compare_size(size, 1 + size * 7 % 33, 1);
                compare_size(1 + size * 10 % 33, size, size % 3 + 1);
            }
            // Several blocks, and what is left after each number of whole ones.
            for (const std::ptrdiff_t hidden : {47, 48, 49, 64, 65, 81, 97, 129, 150}) compare_size(70, hidden, 1);
            in_place_there_are_two(tables, kind, type);
        }
    }
    return runs;
}

}    // namespace
}    // namespace fusedcell::test

int main() {
    using namespace fusedcell;
    int runs = 0;
    for (const KernelTable* tier : available_tiers()) runs += test::run_tier(*tier);
    std::printf("%d stacks stepped in one pass and in two\n", runs);
    return 0;
}
