// The kernels of avxvnni compute what the scalar tier does, bit for bit, also where the CPU lacks AVX-VNNI but has the
// same instruction in EVEX encoding.
#include <cstring>

#include "check.h"
#include "cpu/dispatch.h"
#include "cpu/features.h"
#include "testing/random_stack.h"

namespace fusedcell {

namespace avxvnni_evex {
extern const KernelOverlay overlay;
}

namespace test {
namespace {

struct Outputs {
    std::vector<float> y, h, c;
};

Outputs run(const Geometry& geometry, const KernelTable& kernels, WeightType type, std::ptrdiff_t steps,
            std::ptrdiff_t batch) {
    const auto stack = random_stack(geometry, kernels, type);
    const std::ptrdiff_t inputs = geometry.input_size;
    const std::ptrdiff_t width = geometry.num_directions * geometry.output_size();
    const std::ptrdiff_t states = geometry.num_layers * geometry.num_directions * batch;
    Random random;
    const std::vector<float> x = random.floats(steps * batch * inputs);
    Outputs outputs{std::vector<float>(static_cast<std::size_t>(steps * batch * width)),
                    random.floats(states * geometry.output_size()), random.floats(states * geometry.hidden_size)};
    Workspace workspace;
    stack->run({steps,
                batch,
                {x.data(), batch * inputs, inputs},
                {outputs.y.data(), batch * width, width},
                {outputs.h.data(), outputs.h.data(), geometry.has_cell_state() ? outputs.c.data() : nullptr},
                nullptr},
               workspace);
    return outputs;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void compare(const Geometry& geometry, const KernelTable& kernels, std::ptrdiff_t steps, std::ptrdiff_t batch) {
    for (const WeightType type : {WeightType::int8, WeightType::int8_int16}) {
        const Outputs expected = run(geometry, scalar::kernel_table, type, steps, batch);
        const Outputs outputs = run(geometry, kernels, type, steps, batch);
        CHECK(same_bits(outputs.y, expected.y));
        CHECK(same_bits(outputs.h, expected.h));
        CHECK(same_bits(outputs.c, expected.c));
    }
}

}    // namespace
}    // namespace test
}    // namespace fusedcell

int main() {
    using namespace fusedcell;
    using namespace fusedcell::test;
    constexpr std::uint32_t kNeeded = kAvx2 | kFma | kF16c | kAvx512F | kAvx512Vl | kAvx512Vnni;
    if ((cpu_features() & kNeeded) != kNeeded) {
        std::printf("not run: this CPU lacks AVX-512 VL or VNNI\n");
        return 0;
    }
    KernelTable kernels = avx2::kernel_table;
    kernels.isa = "avxvnni_evex";
    kernels.int8 = avxvnni_evex::overlay.int8;
    kernels.int8_int16 = avxvnni_evex::overlay.int8_int16;
    int runs = 0;
    for (const CellKind kind : kKinds) {
        for (const std::ptrdiff_t hidden : {1, 3, 7, 8, 9, 16, 31, 65}) {
            for (const std::ptrdiff_t inputs : {1, 5, 8, 33}) {
                for (const std::ptrdiff_t batch : {1, 2, 4, 7}) {
                    for (const std::ptrdiff_t steps : {1, 5}) {
                        compare({kind, inputs, hidden, 0, 2, 2}, kernels, steps, batch);
                        ++runs;
                        if (kind == CellKind::kLstm && hidden > 1) {
                            compare({kind, inputs, hidden, hidden - 1, 2, 1}, kernels, steps, batch);
                            ++runs;
                        }
                    }
                }
            }
        }
    }
    std::printf("%d runs with the bits of the scalar tier\n", runs);
    return 0;
}
