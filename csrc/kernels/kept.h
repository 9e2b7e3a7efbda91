// What parts.h has no macro for: which types of nodes, and which activations of nodes, this build of the C++ library
// keeps. All, or those that cmake/parts.cmake lists; the others have no code. These functions are for constant
// expressions alone, as tiers may not share any.
#pragma once

namespace fusedcell {
namespace {

/// `list` has a comma before and after every name.
constexpr bool is_listed(const char* list, const char* name) {
    for (; *list != 0; ++list) {
        if (*list != ',') continue;
        const char* item = list + 1;
        const char* rest = name;
        while (*rest != 0 && *item == *rest) ++item, ++rest;
        if (*rest == 0 && *item == ',') return true;
    }
    return false;
}

constexpr bool keeps_node([[maybe_unused]] const char* type) {
#ifdef FUSEDCELL_NODES
    return is_listed(FUSEDCELL_NODES, type);
#else
    return true;
#endif
}

constexpr bool keeps_activation([[maybe_unused]] const char* name) {
#ifdef FUSEDCELL_ACTIVATIONS
    return is_listed(FUSEDCELL_ACTIVATIONS, name);
#else
    return true;
#endif
}

/// Whether zero blocks of pruned weights are left out, which is for speed and memory.
#ifdef FUSEDCELL_WITHOUT_SPARSE
constexpr bool kKeepsSparse = false;
#else
constexpr bool kKeepsSparse = true;
#endif

/// Whether a model's `axes` are checked, which are of NumPy's arrays alone. A build for small code passes over them.
#ifdef FUSEDCELL_WITHOUT_ROW_TILES
constexpr bool kChecksAxes = false;
#else
constexpr bool kChecksAxes = true;
#endif

/// Whether this build has what the C++ library's own calls never reach: runs on several threads, traces of gates, and
/// kernels that measure tiers, or functions by themselves.
#ifdef FUSEDCELL_WITHOUT_PYTHON
constexpr bool kForPython = false;
#else
constexpr bool kForPython = true;
#endif

}    // namespace
}    // namespace fusedcell
