// RTNeural's recurrent layers behind an interface that needs none of its headers.
#pragma once

#include <cstddef>
#include <memory>

#include "model/geometry.h"

namespace fusedcell::bench {

class RTNeuralCell {
public:
    virtual ~RTNeuralCell() = default;
    /// Sets the state to zero.
    virtual void reset() = 0;
    /// x (T, I), y (T, H). The state carries over from call to call.
    virtual void run(const float* x, float* y, std::ptrdiff_t steps) = 0;
};

/// An LSTM or a GRU with reset_after, I = H = 16, 32, 64 or 128. Throws std::invalid_argument for what else there is.
std::unique_ptr<RTNeuralCell> make_rtneural_cell(const Geometry& geometry, const CellWeights& weights);

}    // namespace fusedcell::bench
