// What a layer's file says of it beside its tensors: the metadata entry 'fusedcell' of docs/file_format.md.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "load/fields.h"
#include "model/geometry.h"
#include "model/names.h"

namespace fusedcell {

struct Description {
    bool has_peepholes;    // may have them, by its version
    bool is_cell;
    CellKind kind;
    std::optional<WeightType> type;    // none: each tensor has its own
    bool batch_first;
    bool reverse;
    json::Value options;    // in the text that it was read from

    /// Throws LoadError.
    static Description parse(const Fields& fields);
};

/// The options of the cells whose names end in `suffixes`, or none where the list is empty. Throws LoadError.
std::vector<CellOptions> parse_options(const json::Value& list, CellKind kind,
                                       const std::vector<std::string>& suffixes);

}    // namespace fusedcell
