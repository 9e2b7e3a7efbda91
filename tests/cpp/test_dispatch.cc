// Which tier a CPU of some features gets first, and what tiers that share packed weights must agree on.
#include <cstdint>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/dispatch.h"
#include "cpu/features.h"

namespace fusedcell::test {
namespace {

std::vector<std::string> names(uint32_t features) {
    std::vector<std::string> found;
    for (const KernelTable* tier : tiers_for(features)) found.emplace_back(tier->isa);
    return found;
}

void a_cpu_without_features_runs_the_tiers_that_need_none() {
    for (const std::string& name : names(0)) {
        CHECK(name == "scalar" || name == "neon" || name == "neon_ld64");
    }
}

#if defined(__aarch64__)
// No core has been seen to be quicker with them, so they run where they are asked for by name.
void tiers_that_load_64_bits_are_never_the_first() {
    using Names = std::vector<std::string>;
    CHECK((names(0) == Names{"neon", "neon_ld64", "scalar"}));
    CHECK((names(kDotProd) == Names{"dotprod", "dotprod_ld64", "neon", "neon_ld64", "scalar"}));
}
#endif

template <class Row>
void check_alike(const MatrixKernel<Row>& a, const MatrixKernel<Row>& b) {
    CHECK((a.run == nullptr) == (b.run == nullptr));
    CHECK(a.gates == b.gates && a.panels_per_block == b.panels_per_block && a.group == b.group);
    CHECK(a.has_initial_accumulators == b.has_initial_accumulators && a.compensated == b.compensated);
}

void check_alike(const WeightKernels& a, const WeightKernels& b) {
#define FUSEDCELL_MATRIX_KERNEL(name, Operation, Row) check_alike(a.name, b.name);
#define FUSEDCELL_MULTIPLY_KERNEL(name) CHECK(a.name.multiply_adds == b.name.multiply_adds);
#include "kernels/kernels.inc"
}

// Several rows go from one tier's kernels to the other's.
void a_tier_with_other_kernels_for_one_row_reads_the_same_weights() {
    const auto tiers = tiers_for(~uint32_t{0});
    for (std::size_t i = 1; i < tiers.size(); ++i) {
        const std::string name = tiers[i]->isa;
        if (name.size() < 5 || name.substr(name.size() - 5) != "_ld64") continue;
        CHECK(name.substr(0, name.size() - 5) == tiers[i - 1]->isa);
        CHECK(tiers[i]->lanes == tiers[i - 1]->lanes);
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) check_alike(tiers[i]->name, tiers[i - 1]->name);
#include "kernels/weight_types.inc"
    }
}

}    // namespace
}    // namespace fusedcell::test

int main() {
    using namespace fusedcell::test;
    a_cpu_without_features_runs_the_tiers_that_need_none();
#if defined(__aarch64__)
    tiers_that_load_64_bits_are_never_the_first();
#endif
    a_tier_with_other_kernels_for_one_row_reads_the_same_weights();
}
