#include "model/stack.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/simd/float_mode.h"

namespace fusedcell {
namespace {

// A compensated dot product adds products of at most 255 * 127; 65,536 of them stay below 2^31.
constexpr std::ptrdiff_t kLargestInt8Depth = 65536;

}    // namespace

Stack::Stack(const Geometry& geometry, const std::vector<CellWeights>& weights, const KernelTable& kernels,
             std::vector<float> input_scales)
    : Node({geometry.input_size, geometry.num_directions * geometry.output_size(),
            geometry.num_layers * geometry.num_directions, geometry.output_size(),
            geometry.has_cell_state() ? geometry.hidden_size : 0, geometry.has_streams()}),
      geometry_(geometry),
      kernels_(&kernels),
      input_scales_(std::move(input_scales)) {
    const auto is_int8 = [](const CellWeights& cell) {
        return is_quantised(cell.weight_ih.type) || is_quantised(cell.weight_hh.type) ||
               is_quantised(cell.weight_hr.type);
    };
    if (geometry.largest_depth() > kLargestInt8Depth && std::any_of(weights.begin(), weights.end(), is_int8)) {
        throw std::invalid_argument("int8: expected inputs and hidden units that add up to at most " +
                                    std::to_string(kLargestInt8Depth) + ", so that no sum overflows, got " +
                                    std::to_string(geometry.largest_depth()));
    }
    const ScopedFloatMode mode;    // packing rounds, and must not do so by the caller's mode
    cells_.reserve(weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const std::ptrdiff_t layer = static_cast<std::ptrdiff_t>(i) / geometry.num_directions;
        const float input_scale = input_scales_.empty() ? 0.0F : input_scales_[static_cast<std::size_t>(layer)];
        cells_.emplace_back(geometry, geometry.layer_input_size(layer), weights[i], input_scale, kernels);
        step_operations_.floats += cells_.back().step_operations().floats;
        step_operations_.int8 += cells_.back().step_operations().int8;
        cells_can_step_ = cells_can_step_ && cells_.back().can_step();
        passes_ = std::max(passes_, cells_.back().passes());
    }
}

std::ptrdiff_t Stack::folded_floats(std::ptrdiff_t entries) const {
    return product_of(geometry_.num_directions, cells_.front().folded_floats(entries));
}

void Stack::fold_inputs(const float* table, std::ptrdiff_t entries) {
    const ScopedFloatMode mode;
    for (std::ptrdiff_t direction = 0; direction < geometry_.num_directions; ++direction) {
        cells_[static_cast<std::size_t>(direction)].fold_inputs(table, entries);
    }
    set_input_size(1);
}

std::vector<UnpackedCell> Stack::unpack() const {
    std::vector<UnpackedCell> cells;
    cells.reserve(cells_.size());
    for (const PackedCell& cell : cells_) cells.push_back(cell.unpack());
    return cells;
}

std::optional<WeightType> Stack::type() const {
    const WeightType first = cells_.front().types().weight_ih;
    const auto is_first = [&](const PackedCell& cell) {
        const CellTypes types = cell.types();
        const bool has_projection = geometry_.proj_size > 0;
        return types.weight_ih == first && types.weight_hh == first && (!has_projection || types.weight_hr == first);
    };
    if (!std::all_of(cells_.begin(), cells_.end(), is_first)) return std::nullopt;
    return first;
}

std::size_t Stack::nbytes() const {
    std::size_t total = 0;
    for (const PackedCell& cell : cells_) total += cell.nbytes();
    return total;
}

std::size_t Stack::matrix_nbytes() const {
    std::size_t total = 0;
    for (const PackedCell& cell : cells_) total += cell.matrix_nbytes();
    return total;
}

}    // namespace fusedcell
