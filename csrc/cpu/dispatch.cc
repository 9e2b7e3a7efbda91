#include "cpu/dispatch.h"

#include <cstdlib>
#include <stdexcept>

#include "cpu/features.h"

namespace fusedcell {
namespace {

std::string available_names() {
    std::string names;
    for (const KernelTable* tier : available_tiers()) {
        if (!names.empty()) names += ", ";
        names += tier->isa;
    }
    return names;
}

[[maybe_unused]] KernelTable overlaid(KernelTable table, const char* isa, const KernelOverlay& overlay) {
    table.isa = isa;
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) \
    if (overlay.name.linear.run != nullptr) table.name = overlay.name;
#include "kernels/weight_types.inc"
    return table;
}

[[maybe_unused]] bool has_int8_alone(const KernelOverlay& overlay) {
    return overlay.float32.linear.run == nullptr && overlay.bfloat16.linear.run == nullptr &&
           overlay.float16.linear.run == nullptr;
}

// All are declared first, as an overlay may come before its base.
#define FUSEDCELL_TIER(isa, required_features) const KernelTable& table_of_##isa();
#define FUSEDCELL_OVERLAY(isa, base, required_features) const KernelTable& table_of_##isa();
#include "kernels/tiers.inc"
#define FUSEDCELL_TIER(isa, required_features) \
    const KernelTable& table_of_##isa() { return isa::kernel_table; }
#define FUSEDCELL_OVERLAY(isa, base, required_features)                                   \
    const KernelTable& table_of_##isa() {                                                 \
        static const KernelTable table = overlaid(table_of_##base(), #isa, isa::overlay); \
        return table;                                                                     \
    }
#include "kernels/tiers.inc"

}    // namespace

std::vector<const KernelTable*> tiers_for(uint32_t features) {
    std::vector<const KernelTable*> found;
    const auto consider = [&](const KernelTable& table, uint32_t required) {
        if ((features & required) == required) found.push_back(&table);
    };
#define FUSEDCELL_TIER(isa, required_features) consider(table_of_##isa(), required_features);
#define FUSEDCELL_OVERLAY(isa, base, required_features) consider(table_of_##isa(), required_features);
#include "kernels/tiers.inc"
    return found;
}

const std::vector<const KernelTable*>& available_tiers() {
    static const std::vector<const KernelTable*> tiers = tiers_for(cpu_features());
    return tiers;
}

std::vector<std::string> compiled_tiers() {
    return {
#define FUSEDCELL_TIER(isa, required_features) #isa,
#define FUSEDCELL_OVERLAY(isa, base, required_features) #isa,
#include "kernels/tiers.inc"
    };
}

std::vector<std::string> int8_tiers() {
    std::vector<std::string> names;
#define FUSEDCELL_OVERLAY(isa, base, required_features) \
    if (has_int8_alone(isa::overlay)) names.emplace_back(#isa);
#include "kernels/tiers.inc"
    return names;
}

const KernelTable& select_tier(const std::string& requested) {
    if (available_tiers().empty()) {    // of a build without the scalar tier
        std::string names;
        for (const std::string& tier : compiled_tiers()) names += (names.empty() ? "" : ", ") + tier;
        throw std::invalid_argument("isa: this CPU runs none of this build's tiers: " + names);
    }
    std::string name = requested;
    const char* source = "isa";
    if (name.empty()) {
        const char* from_environment = std::getenv("FUSEDCELL_ISA");
        if (from_environment == nullptr || *from_environment == '\0') return *available_tiers().front();
        name = from_environment;
        source = "FUSEDCELL_ISA";
    }
    for (const KernelTable* tier : available_tiers()) {
        if (name == tier->isa) return *tier;
    }
    bool compiled = false;
    for (const std::string& tier : compiled_tiers()) compiled = compiled || tier == name;
    throw std::invalid_argument(std::string(source) + ": " +
                                (compiled ? "this CPU cannot run '" : "there is no tier '") + name +
                                "'; this machine runs: " + available_names());
}

const WeightKernels& kernels_for(const KernelTable& table, WeightType type) {
    switch (type) {
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) \
    case WeightType::name: return table.name;
#include "kernels/weight_types.inc"
    }
    return table.float32;
}

}    // namespace fusedcell
