// Which kinds of core this process may run on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fusedcell {

/// Cores that are alike. Implementer and part are those of AArch64's MIDR_EL1, and 0 where there is none to be read.
struct CoreKind {
    std::string name;    // "implementer 0x.., part 0x..." of a core that is not known; "unknown" without those
    uint32_t implementer = 0;
    uint32_t part = 0;
    bool in_order = false;       // known to issue instructions in the order of the program
    int cpus = 0;                // how many of them there are
    std::vector<int> numbers;    // which they are, where the system numbers its CPUs
};

/// The kinds in this process's affinity mask, that of the lowest CPU first; at least one. Found once.
const std::vector<CoreKind>& core_kinds();

/// The kinds of the CPUs `numbers`, as Linux on AArch64 describes them in the files of /sys and /proc below `root`.
/// CPUs of which no file tells are of a kind named "unknown".
std::vector<CoreKind> read_core_kinds(const std::string& root, const std::vector<int>& numbers);

}    // namespace fusedcell
