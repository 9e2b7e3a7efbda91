// RTNeural's layers with sizes known at compile time, on xsimd. This unit alone is compiled for this very CPU; the loop
// over steps is here so that the compiler may inline a step, as it can for RTNeural's users.
#include "rtneural_cells.h"

#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <RTNeural/gru/gru.h>
#include <RTNeural/lstm/lstm.h>

namespace fusedcell::bench {
namespace {

using Vector = xsimd::simd_type<float>;
using Rows = std::vector<std::vector<float>>;
constexpr std::ptrdiff_t kLanes = Vector::size;

// Where RTNeural, which follows Keras, keeps the gates of PyTorch's order: i f g o is i f c o, and r z n is z r h.
constexpr std::ptrdiff_t kLstmPlaces[] = {0, 1, 2, 3};
constexpr std::ptrdiff_t kGruPlaces[] = {1, 0, 2};

// PyTorch's (gates * H, depth) as (depth, gates * H).
Rows transposed(const float* rows, const std::ptrdiff_t* places, std::ptrdiff_t gates, std::ptrdiff_t hidden,
                std::ptrdiff_t depth) {
    Rows columns(depth, std::vector<float>(gates * hidden));
    for (std::ptrdiff_t gate = 0; gate < gates; ++gate) {
        for (std::ptrdiff_t unit = 0; unit < hidden; ++unit) {
            for (std::ptrdiff_t k = 0; k < depth; ++k) {
                columns[k][places[gate] * hidden + unit] = rows[(gate * hidden + unit) * depth + k];
            }
        }
    }
    return columns;
}

template <class Layer>
class Cell final : public RTNeuralCell {
public:
    static constexpr std::ptrdiff_t kSize = Layer::out_size;
    static_assert(Layer::in_size == kSize && kSize % kLanes == 0, "whole vectors of inputs and units");
    static constexpr bool kIsGru = std::is_same_v<Layer, RTNeural::GRULayerT<float, kSize, kSize>>;

    explicit Cell(const CellWeights& weights) {
        const std::ptrdiff_t* places = kIsGru ? kGruPlaces : kLstmPlaces;
        const std::ptrdiff_t gates = kIsGru ? 3 : 4;
        layer_.setWVals(transposed(weights.weight_ih.values, places, gates, kSize, kSize));
        layer_.setUVals(transposed(weights.weight_hh.values, places, gates, kSize, kSize));
        Rows biases = {transposed(weights.bias_ih, places, gates, kSize, 1)[0],
                       transposed(weights.bias_hh, places, gates, kSize, 1)[0]};
        if constexpr (kIsGru) {
            layer_.setBVals(biases);
        } else {
            for (std::size_t i = 0; i < biases[0].size(); ++i) biases[0][i] += biases[1][i];
            layer_.setBVals(biases[0]);
        }
    }

    void reset() override { layer_.reset(); }

    void run(const float* x, float* y, std::ptrdiff_t steps) override {
        for (std::ptrdiff_t step = 0; step < steps; ++step, x += kSize, y += kSize) {
            Vector inputs[kSize / kLanes];
            for (std::ptrdiff_t i = 0; i < kSize; i += kLanes) inputs[i / kLanes] = Vector::load_unaligned(x + i);
            layer_.forward(inputs);
            for (std::ptrdiff_t i = 0; i < kSize; i += kLanes) layer_.outs[i / kLanes].store_unaligned(y + i);
        }
    }

private:
    Layer layer_;
};

template <int size>
std::unique_ptr<RTNeuralCell> make(const Geometry& geometry, const CellWeights& weights) {
    if (geometry.hidden_size != size || geometry.input_size != size) return nullptr;
    if (geometry.kind == CellKind::kLstm) {
        return std::make_unique<Cell<RTNeural::LSTMLayerT<float, size, size>>>(weights);
    }
    if (geometry.kind == CellKind::kGruResetAfter) {
        return std::make_unique<Cell<RTNeural::GRULayerT<float, size, size>>>(weights);
    }
    return nullptr;
}

}    // namespace

std::unique_ptr<RTNeuralCell> make_rtneural_cell(const Geometry& geometry, const CellWeights& weights) {
    for (const auto make_size : {make<16>, make<32>, make<64>, make<128>}) {
        if (std::unique_ptr<RTNeuralCell> cell = make_size(geometry, weights)) return cell;
    }
    throw std::invalid_argument("geometry: not compiled in, H = " + std::to_string(geometry.hidden_size));
}

}    // namespace fusedcell::bench
