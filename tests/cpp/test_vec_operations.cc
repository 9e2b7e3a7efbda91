// Runs vec_operations.cc on every tier that this CPU has.
#include <cstdio>

#include "check.h"
#include "cpu/dispatch.h"
#include "cpu/features.h"

namespace fusedcell {

#define FUSEDCELL_TIER(isa, required_features) \
    namespace isa {                            \
    void check_vec_operations();               \
    }
#define FUSEDCELL_OVERLAY(isa, base, required_features) \
    namespace isa {                                     \
    void check_vec_operations();                        \
    }
#include "kernels/tiers.inc"

}    // namespace fusedcell

int main() {
    using namespace fusedcell;
    const auto run = [](const char* isa, std::uint32_t required, void (*check)()) {
        if ((cpu_features() & required) != required) return;
        std::printf("%s\n", isa);
        check();
    };
#define FUSEDCELL_TIER(isa, required_features) run(#isa, required_features, &isa::check_vec_operations);
#define FUSEDCELL_OVERLAY(isa, base, required_features) run(#isa, required_features, &isa::check_vec_operations);
#include "kernels/tiers.inc"
}
