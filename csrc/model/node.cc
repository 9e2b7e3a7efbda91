#include "model/node.h"

#include <numeric>

#include "model/team.h"

namespace fusedcell {

double NodeRun::rows() const {
    const auto most = static_cast<double>(steps) * static_cast<double>(batch);
    return lengths == nullptr ? most : std::accumulate(lengths, lengths + batch, 0.0);
}

void Node::step_rows(const float* x, float* y, const RowState* rows, std::ptrdiff_t num_rows, Workspace& workspace,
                     int num_threads) const {
    const std::ptrdiff_t parts = (num_rows + kMostRows - 1) / kMostRows;
    if (parts == 0) return;
    // One row is a step in one pass, as of a stream, where the states of all layers lie in one piece.
    const bool in_one_piece = rows->layer_rows == 1 || shape_.state_layers == 1;
    if (num_rows == 1 && in_one_piece && (num_threads == 1 || is_small(1))) {
        reserve(1, 1, workspace);
        return step(x, y, rows->h, rows->c, workspace);
    }
    reserve(1, (num_rows + parts - 1) / parts, workspace, num_threads);
    for (std::ptrdiff_t i = 0; i < parts; ++i) {
        const std::ptrdiff_t first = share_of(num_rows, i, parts);
        const std::ptrdiff_t count = share_of(num_rows, i + 1, parts) - first;
        NodeRun part{1,
                     count,
                     {x + first * shape_.input_size, 0, shape_.input_size},
                     {y + first * shape_.output_size, 0, shape_.output_size},
                     {nullptr, nullptr, nullptr, rows + first},
                     nullptr};
        part.has_room = true;
        run(part, workspace, num_threads);
    }
}

}    // namespace fusedcell
