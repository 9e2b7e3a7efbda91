// Which tier a CPU of some features and cores gets first, and what tiers that share packed weights must agree on.
#include <cstdint>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/cores.h"
#include "cpu/dispatch.h"
#include "cpu/features.h"

namespace fusedcell::test {
namespace {

CoreKind core(const std::string& name, bool loads_64_bits) {
    CoreKind kind;
    kind.name = name;
    kind.loads_64_bits = loads_64_bits;
    return kind;
}

std::vector<std::string> names(uint32_t features, const std::vector<CoreKind>& kinds) {
    std::vector<std::string> found;
    for (const KernelTable* tier : tiers_for(features, kinds)) found.emplace_back(tier->isa);
    return found;
}

void a_cpu_without_features_runs_the_tiers_that_need_none() {
    for (const std::string& name : names(0, {core("any", false)})) {
        CHECK(name == "scalar" || name == "neon" || name == "neon_ld64");
    }
}

#if defined(__aarch64__)
const CoreKind kLittle = core("Cortex-A55", true);
const CoreKind kBig = core("Cortex-A76", false);
using Names = std::vector<std::string>;

void cores_that_load_64_bits_get_the_tiers_made_for_them() {
    CHECK((names(0, {kLittle}) == Names{"neon_ld64", "neon", "scalar"}));
    CHECK((names(kDotProd, {kLittle}) == Names{"dotprod_ld64", "dotprod", "neon_ld64", "neon", "scalar"}));
}

void any_other_core_decides_for_the_whole_chip() {
    const Names expected = {"dotprod", "dotprod_ld64", "neon", "neon_ld64", "scalar"};
    CHECK(names(kDotProd, {kBig}) == expected);
    CHECK(names(kDotProd, {kLittle, kBig}) == expected);
    CHECK(names(kDotProd, {kBig, kLittle}) == expected);
    CHECK(names(kDotProd, {core("unknown", false)}) == expected);
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
#define FUSEDCELL_MULTIPLY_KERNEL(name) CHECK(a.name.run == b.name.run);
#include "kernels/kernels.inc"
}

// Several rows go from one tier's kernels to the other's.
void a_tier_with_other_kernels_for_one_row_reads_the_same_weights() {
    const auto tiers = tiers_for(~uint32_t{0}, {core("any", false)});
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
    cores_that_load_64_bits_get_the_tiers_made_for_them();
    any_other_core_decides_for_the_whole_chip();
#endif
    a_tier_with_other_kernels_for_one_row_reads_the_same_weights();
}
