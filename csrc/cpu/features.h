// What this CPU can run, as its operating system allows it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fusedcell {

// The place of each feature's bit.
enum class FeatureBit {
#define FUSEDCELL_X86_FEATURE(constant, name, word, bit, registers) constant,
#define FUSEDCELL_ARM64_FEATURE(constant, name, hwcap, bit, sysctl, processor_feature) constant,
#define FUSEDCELL_ARM_FEATURE(constant, name, bit) constant,
#include "cpu/features.inc"
};

// A tier is a set of them, whatever the CPU that it is compiled for.
enum Feature : uint32_t {
#define FUSEDCELL_FEATURE(constant) constant = 1U << static_cast<int>(FeatureBit::constant),
#define FUSEDCELL_X86_FEATURE(constant, name, word, bit, registers) FUSEDCELL_FEATURE(constant)
#define FUSEDCELL_ARM64_FEATURE(constant, name, hwcap, bit, sysctl, processor_feature) FUSEDCELL_FEATURE(constant)
#define FUSEDCELL_ARM_FEATURE(constant, name, bit) FUSEDCELL_FEATURE(constant)
#include "cpu/features.inc"
#undef FUSEDCELL_FEATURE
};

/// The features of the running CPU. Vector features count only where the operating system saves their registers.
uint32_t cpu_features();

/// The names of cpu_features(), in a fixed order.
std::vector<std::string> cpu_feature_names();

/// The name that an x86-64 CPU gives itself, padded as it gives it; empty on others.
std::string cpu_brand();

}    // namespace fusedcell
