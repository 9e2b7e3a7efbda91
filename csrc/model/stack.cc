#include "model/stack.h"

#include "kernels/simd/float_mode.h"

namespace fusedcell {

Stack::Stack(const Geometry& geometry, const std::vector<CellWeights>& weights, const KernelTable& kernels)
    : geometry_(geometry), kernels_(&kernels) {
    cells_.reserve(weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const std::ptrdiff_t layer = static_cast<std::ptrdiff_t>(i) / geometry.num_directions;
        cells_.emplace_back(geometry, geometry.layer_input_size(layer), weights[i], kernels);
    }
}

void Stack::reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, Workspace& workspace) const {
    for (const PackedCell& cell : cells_) cell.reserve(steps, batch, workspace);
    const std::ptrdiff_t used = geometry_.num_layers > 2 ? 2 : geometry_.num_layers - 1;
    const auto floats = static_cast<std::size_t>(steps * batch * geometry_.num_directions * geometry_.output_size());
    for (std::ptrdiff_t i = 0; i < used; ++i) {
        if (workspace.between_layers[i].size() < floats) workspace.between_layers[i].resize(floats);
    }
}

void Stack::run(const StackRun& run, Workspace& workspace) const {
    reserve(run.steps, run.batch, workspace);
    const ScopedFloatMode mode;
    const std::ptrdiff_t output_size = geometry_.output_size();
    const std::ptrdiff_t width = geometry_.num_directions * output_size;
    const std::ptrdiff_t last = geometry_.num_layers - 1;
    SequenceView<const float> x = run.x;
    for (std::ptrdiff_t layer = 0; layer <= last; ++layer) {
        const SequenceView<float> y =
            layer == last ? run.y
                          : SequenceView<float>{workspace.between_layers[layer % 2].data(), run.batch * width, width};
        for (std::ptrdiff_t direction = 0; direction < geometry_.num_directions; ++direction) {
            const std::ptrdiff_t index = layer * geometry_.num_directions + direction;
            const std::ptrdiff_t h_offset = index * run.batch * output_size;
            float* c = run.c == nullptr ? nullptr : run.c + index * run.batch * geometry_.hidden_size;
            const SequenceView<float> half{y.data + direction * output_size, y.step_stride, y.row_stride};
            cells_[static_cast<std::size_t>(index)].run(
                {run.steps, run.batch, x, half, run.h_0 + h_offset, run.h_n + h_offset, c, run.lengths, direction == 1},
                workspace);
        }
        x = {y.data, y.step_stride, y.row_stride};
    }
}

std::size_t Stack::nbytes() const {
    std::size_t total = 0;
    for (const PackedCell& cell : cells_) total += cell.nbytes();
    return total;
}

double Stack::step_operations() const { return static_cast<double>(nbytes()) / sizeof(float); }

}    // namespace fusedcell
