// Stacked and bidirectional layers: immutable weights, shared by any number of runs and streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/geometry.h"
#include "model/packed_cell.h"

namespace fusedcell {

// Shapes as in CellRun, with L layers and D directions; states are layer-major, then direction.
struct StackRun {
    std::ptrdiff_t steps;
    std::ptrdiff_t batch;
    SequenceView<const float> x;    // (T, B, I)
    SequenceView<float> y;          // (T, B, D * P)
    const float* h_0;               // (L * D, B, P)
    float* h_n;                     // (L * D, B, P); may be h_0
    float* c;                       // (L * D, B, H), updated in place; null without a cell state
    const std::int64_t* lengths;    // (B,) in [0, T], or null
};

class Stack {
public:
    /// `weights` holds num_layers * num_directions cells, layer-major. The arrays are copied. `input_scales` is as
    /// input_scales() below.
    Stack(const Geometry& geometry, const std::vector<CellWeights>& weights, WeightType type,
          const KernelTable& kernels, std::vector<float> input_scales = {});

    /// The same layers with their weights, as they are stored here, rounded to another type. Throws
    /// std::invalid_argument if that type cannot hold one of them. `input_scales` are for int8: one a layer, or none.
    Stack astype(WeightType type, const std::vector<float>& input_scales) const;

    /// The weights as they are stored, halves widened to float; layer-major, then direction.
    std::vector<UnpackedCell> unpack() const;

    /// Runs in the kernels' floating-point mode and gives the caller's back. y must not overlap x.
    void run(const StackRun& run, Workspace& workspace) const;

    /// Makes room for runs of up to `steps` steps, so that they will not allocate.
    void reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, Workspace& workspace) const;

    const Geometry& geometry() const { return geometry_; }
    const KernelTable& kernels() const { return *kernels_; }
    WeightType type() const { return type_; }

    /// The fixed scales of int8 inputs, one a layer, or none if each row has its own.
    const std::vector<float>& input_scales() const { return input_scales_; }

    /// Bytes of packed weights.
    std::size_t nbytes() const;

    /// Multiply-adds of one step of one batch row.
    double step_operations() const;

private:
    Geometry geometry_;
    WeightType type_;
    const KernelTable* kernels_;
    std::vector<float> input_scales_;
    std::vector<PackedCell> cells_;
};

}    // namespace fusedcell
