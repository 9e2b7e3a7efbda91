#include "pack/pack.h"

#include <algorithm>

namespace fusedcell {

std::size_t packed_size(const PanelShape& shape, std::ptrdiff_t panels, std::ptrdiff_t depth) {
    const std::ptrdiff_t vectors = panels * shape.gates;
    return static_cast<std::size_t>(vectors * (depth + (shape.has_initial_accumulators ? 1 : 0)) * shape.lanes);
}

void pack(const PanelShape& shape, const std::vector<SourceRow>& rows, std::ptrdiff_t depth, float* destination) {
    const std::size_t rows_per_block =
        static_cast<std::size_t>(shape.panels_per_block) * static_cast<std::size_t>(shape.gates * shape.lanes);
    for (std::size_t first = 0; first < rows.size(); first += rows_per_block) {
        const std::size_t last = std::min(first + rows_per_block, rows.size());
        if (shape.has_initial_accumulators) {
            for (std::size_t r = first; r < last; ++r) *destination++ = rows[r].initial;
        }
        for (std::ptrdiff_t k = 0; k < depth; ++k) {
            for (std::size_t r = first; r < last; ++r) {
                *destination++ = rows[r].weights == nullptr ? 0.0F : rows[r].weights[k];
            }
        }
    }
}

}    // namespace fusedcell
