// How many CPUs this process may keep busy.
#pragma once

namespace fusedcell {

/// The CPUs of the process's affinity mask, cut by its control group's quota; at least 1. Found once.
int available_cpus();

}    // namespace fusedcell
