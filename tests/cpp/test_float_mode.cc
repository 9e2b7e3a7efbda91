// The caller's floating-point mode neither changes our bits nor is changed by us.
#include <cfenv>
#include <cstring>
#include <limits>

#include "check.h"
#include "cpu/dispatch.h"
#include "model/stream.h"
#include "testing/random_stack.h"

namespace fusedcell::test {
namespace {

std::vector<float> run(const std::shared_ptr<const Stack>& stack) {
    Random random;
    StreamState stream(stack, 2);
    std::vector<float> y(2 * 17);
    for (int step = 0; step < 20; ++step) {
        const std::vector<float> x = random.floats(2 * 6);
        stream.step(x.data(), y.data());
    }
    return y;
}

// All exceptions unmasked where the CPU can trap, which glibc says.
bool unmask_all() {
#if defined(__GLIBC__)
    std::feclearexcept(FE_ALL_EXCEPT);
    return feenableexcept(FE_ALL_EXCEPT) != -1;
#else
    return false;
#endif
}

void mask_all() {
#if defined(__GLIBC__)
    fedisableexcept(FE_ALL_EXCEPT);
#endif
}

bool denormals_work() {
    volatile float smallest = std::numeric_limits<float>::min();
    return smallest / 2 > 0;
}

}    // namespace
}    // namespace fusedcell::test

int main() {
    using namespace fusedcell;
    using namespace fusedcell::test;
    for (const KernelTable* tier : available_tiers()) {
        for (const CellKind kind : kKinds) {
            for (const WeightType type : kWeightTypes) {
                const Geometry geometry{kind, 6, 17, 0, 2, 1};
                const std::vector<float> expected = run(random_stack(geometry, *tier, type));
                for (const int rounding : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST}) {
                    CHECK(std::fesetround(rounding) == 0);
                    std::feclearexcept(FE_ALL_EXCEPT);
                    std::feraiseexcept(FE_OVERFLOW);
                    const std::vector<float> y = run(random_stack(geometry, *tier, type));
                    CHECK(std::fegetround() == rounding);
                    CHECK(std::fetestexcept(FE_OVERFLOW) != 0);
                    CHECK(denormals_work());
                    std::fesetround(FE_TONEAREST);
                    CHECK(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) == 0);
                }
                const auto stack = random_stack(geometry, *tier, type);
                if (!unmask_all()) continue;
                StreamState stream(stack, 1);    // where no test's own arithmetic traps
                const std::vector<float> x(6, 0.1F);
                std::vector<float> y(17);
                stream.step(x.data(), y.data());
                stream.process(x.data(), y.data(), 1);
                mask_all();
            }
        }
    }
    return 0;
}
