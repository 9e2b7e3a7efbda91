// Which kernels run: the explicit request first, then FUSEDCELL_ISA, then the best tier of this CPU.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/kernel_api.h"

namespace fusedcell {

/// The tiers that a CPU with these features (a set of Feature) runs, best first.
std::vector<const KernelTable*> tiers_for(uint32_t features);

/// The tiers that this CPU runs, best first.
const std::vector<const KernelTable*>& available_tiers();

/// The tiers that this build contains, best first.
std::vector<std::string> compiled_tiers();

/// Those of compiled_tiers() that differ from the tier they build on in int8 alone.
std::vector<std::string> int8_tiers();

/// Resolves a tier by name; an empty name means FUSEDCELL_ISA if that is set and not empty, else the best tier.
/// Throws std::invalid_argument, which lists the tiers there are, for any other name.
const KernelTable& select_tier(const std::string& requested);

/// A tier's kernels for weights of a type.
const WeightKernels& kernels_for(const KernelTable& table, WeightType type);

}    // namespace fusedcell
