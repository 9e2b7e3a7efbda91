#include "cpu/dispatch.h"

#include <algorithm>
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

// How fast the tier can multiply is no matter of one row.
[[maybe_unused]] void take_matrix_kernels(WeightKernels& kernels, const WeightKernels& from) {
    if (from.linear.run == nullptr) return;
#define FUSEDCELL_MATRIX_KERNEL(name, Operation, Row) kernels.name = from.name;
#include "kernels/kernels.inc"
}

[[maybe_unused]] KernelTable with_rows(KernelTable table, const char* isa, const RowKernels& rows) {
    table.isa = isa;
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) take_matrix_kernels(table.name, rows.name);
#include "kernels/weight_types.inc"
    return table;
}

[[maybe_unused]] KernelTable with_int8(KernelTable table, const char* isa, const WeightKernels& int8_kernels) {
    table.isa = isa;
    table.int8 = int8_kernels;
    return table;
}

}    // namespace

std::vector<const KernelTable*> tiers_for(uint32_t features, [[maybe_unused]] const std::vector<CoreKind>& kinds) {
    std::vector<const KernelTable*> found;
    const auto consider = [&](const KernelTable& table, uint32_t required) {
        if ((features & required) == required) found.push_back(&table);
    };
    // Where a chip has other cores too, they are the faster ones, and what suits them counts.
    [[maybe_unused]] const auto consider_row = [&](const KernelTable& table, uint32_t required) {
        const bool first =
            std::all_of(kinds.begin(), kinds.end(), [](const CoreKind& kind) { return kind.loads_64_bits; });
        if ((features & required) == required) found.insert(first ? found.end() - 1 : found.end(), &table);
    };
#define FUSEDCELL_TIER(isa, required_features) consider(isa::kernel_table, required_features);
#define FUSEDCELL_INT8_TIER(isa, base, required_features)                                          \
    static const KernelTable isa##_table = with_int8(base::kernel_table, #isa, isa::int8_kernels); \
    consider(isa##_table, required_features);
#define FUSEDCELL_ROW_TIER(isa, base, required_features)                                          \
    static const KernelTable isa##_table = with_rows(base::kernel_table, #isa, isa::row_kernels); \
    consider_row(isa##_table, required_features);
#define FUSEDCELL_INT8_ROW_TIER(isa, base, row, required_features)                          \
    static const KernelTable isa##_table =                                                  \
        with_rows(with_rows(base##_table, #row, row::row_kernels), #isa, isa::row_kernels); \
    consider_row(isa##_table, required_features);
#include "kernels/tiers.inc"
    return found;
}

const std::vector<const KernelTable*>& available_tiers() {
    static const std::vector<const KernelTable*> tiers = tiers_for(cpu_features(), core_kinds());
    return tiers;
}

std::vector<std::string> compiled_tiers() {
    return {
#define FUSEDCELL_TIER(isa, required_features) #isa,
#define FUSEDCELL_INT8_TIER(isa, base, required_features) #isa,
#define FUSEDCELL_ROW_TIER(isa, base, required_features) #isa,
#define FUSEDCELL_INT8_ROW_TIER(isa, base, row, required_features) #isa,
#include "kernels/tiers.inc"
    };
}

std::vector<std::string> int8_tiers() {
    return {
#define FUSEDCELL_INT8_TIER(isa, base, required_features) #isa,
#define FUSEDCELL_INT8_ROW_TIER(isa, base, row, required_features) #isa,
#include "kernels/tiers.inc"
    };
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
