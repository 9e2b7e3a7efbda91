// Stacks with random weights, for tests and benches that care about memory, modes and time rather than about values.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/cell_options.h"
#include "model/stack.h"

namespace fusedcell::test {

class Random {
public:
    float operator()() {
        state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
        return static_cast<float>(static_cast<std::int64_t>(state_ >> 40) - (1 << 23)) / (1 << 24);
    }
    std::vector<float> floats(std::ptrdiff_t size) {
        std::vector<float> values(static_cast<std::size_t>(size));
        for (float& value : values) value = (*this)();
        return values;
    }

private:
    std::uint64_t state_ = 1;
};

constexpr CellKind kKinds[] = {CellKind::kRnnTanh, CellKind::kRnnRelu, CellKind::kLstm, CellKind::kGruResetAfter,
                               CellKind::kGruResetBefore};

constexpr WeightType kWeightTypes[] = {
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) WeightType::name,
#include "kernels/weight_types.inc"
};

/// Options, so that `general` cells are tested: clip, peepholes and coupled gates where the cell has them.
inline CellOptions random_options(CellKind kind) {
    CellOptions options = usual_options(kind);
    options.activations[0] = {ActivationKind::kHardSigmoid, 0.2F, 0.5F};
    options.clip = 1.5F;
    options.input_forget = kind == CellKind::kLstm;
    return options;
}

inline std::shared_ptr<const Stack> random_stack(const Geometry& geometry, const KernelTable& kernels,
                                                 WeightType type = WeightType::float32, bool general = false,
                                                 bool sparse = false) {
    Random random;
    std::vector<std::vector<float>> arrays;
    std::vector<CellWeights> weights;
    const std::ptrdiff_t rows = gates_of(geometry.kind) * geometry.hidden_size;
    for (std::ptrdiff_t layer = 0; layer < geometry.num_layers; ++layer) {
        for (std::ptrdiff_t direction = 0; direction < geometry.num_directions; ++direction) {
            const auto array = [&](std::ptrdiff_t size) {
                arrays.push_back(random.floats(size));
                return arrays.back().data();
            };
            CellWeights cell;
            // Of five groups of four columns, if sparse, one.
            const auto matrix = [&](std::ptrdiff_t depth) {
                array(rows * depth);
                std::vector<float>& values = arrays.back();
                for (std::ptrdiff_t i = 0; sparse && i < rows * depth; ++i) {
                    if (i % depth / 4 % 5 != 3) values[static_cast<std::size_t>(i)] = 0.0F;
                }
                return values.data();
            };
            cell.weight_ih.values = matrix(geometry.layer_input_size(layer));
            cell.weight_hh.values = matrix(geometry.output_size());
            cell.bias_ih = array(rows);
            cell.bias_hh = array(rows);
            if (geometry.proj_size > 0) cell.weight_hr.values = array(geometry.proj_size * geometry.hidden_size);
            cell.weight_ih.type = cell.weight_hh.type = cell.weight_hr.type = type;
            if (general) cell.options = random_options(geometry.kind);
            if (general && geometry.kind == CellKind::kLstm) cell.weight_peephole = array(3 * geometry.hidden_size);
            weights.push_back(cell);
        }
    }
    return std::make_shared<const Stack>(geometry, weights, kernels);
}

}    // namespace fusedcell::test
