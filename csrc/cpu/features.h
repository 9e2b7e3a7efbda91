// What this CPU can run, as its operating system allows it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fusedcell {

// A bit each; a tier is a set of them. On AArch64 the vector baseline (NEON) needs no bit; kNeon is of 32-bit ARM.
enum Feature : uint32_t {
    kAvx2 = 1U << 0,
    kFma = 1U << 1,
    kAvx512F = 1U << 2,
    kAvx512Bw = 1U << 3,
    kAvx512Dq = 1U << 4,
    kAvx512Vl = 1U << 5,
    kAvx512Vnni = 1U << 6,
    kAvxVnni = 1U << 7,
    kF16c = 1U << 8,
    kDotProd = 1U << 9,
    kI8mm = 1U << 10,
    kNeon = 1U << 11,
    kVfpv4 = 1U << 12,
};

/// The features of the running CPU. Vector features count only where the operating system saves their registers.
uint32_t cpu_features();

/// The names of cpu_features(), in a fixed order.
std::vector<std::string> cpu_feature_names();

/// The name that an x86-64 CPU gives itself, padded as it gives it; empty on others.
std::string cpu_brand();

}    // namespace fusedcell
