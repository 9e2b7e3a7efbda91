// Stacked and bidirectional layers: immutable weights, shared by any number of runs and streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "model/geometry.h"
#include "model/node.h"
#include "model/packed_cell.h"

namespace fusedcell {

// How a run is shared out among threads.
struct ThreadPlan {
    int threads = 1;
    int groups = 1;            // of threads; each takes one direction, or every groups-th layer
    bool wavefront = false;    // the groups take layers, each some steps behind the layer below
};

class Stack final : public Node {
public:
    /// `weights` holds num_layers * num_directions cells, layer-major. The arrays are copied. `input_scales` is as
    /// input_scales() below.
    Stack(const Geometry& geometry, const std::vector<CellWeights>& weights, const KernelTable& kernels,
          std::vector<float> input_scales = {});

    /// As PackedCell::fold_inputs, of the first layer. Before the first run.
    void fold_inputs(const float* table, std::ptrdiff_t entries);
    /// Floats of memory that this takes.
    std::ptrdiff_t folded_floats(std::ptrdiff_t entries) const;

    /// The weights as they are stored, halves widened to float; layer-major, then direction.
    std::vector<UnpackedCell> unpack() const;

    void run(const NodeRun& run, Workspace& workspace, int num_threads = 1) const override;
    void step(const float* x, float* y, float* h, float* c, Workspace& workspace) const override;
    void reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, Workspace& workspace, int num_threads = 1) const override;
    bool is_small(double rows) const override;
    double step_operations() const override { return step_operations_.sum(); }
    std::size_t nbytes() const override;
    std::size_t matrix_nbytes() const override;

    /// The run, shared out as the caller says: groups of at most kMostGroups, directions or a wavefront only where
    /// there are two directions, or one that runs forwards. If another run has the workers, this one goes on alone.
    void run(const NodeRun& run, Workspace& workspace, const ThreadPlan& plan) const;
    static constexpr int kMostGroups = 8;

    const Geometry& geometry() const { return geometry_; }
    /// Layer-major, then direction.
    const CellOptions& options(std::size_t cell) const { return cells_[cell].options(); }
    std::size_t num_cells() const { return cells_.size(); }
    const KernelTable& kernels() const { return *kernels_; }
    CellDensities densities(std::size_t cell) const { return cells_[cell].densities(); }
    CellTypes types(std::size_t cell) const { return cells_[cell].types(); }
    /// The type of all matrices; none where they differ.
    std::optional<WeightType> type() const;

    /// The fixed scales of int8 inputs, one a layer, or none if each row has its own.
    const std::vector<float>& input_scales() const { return input_scales_; }

private:
    struct Worker;
    class Progress;

    ThreadPlan plan(const NodeRun& run, double rows, int num_threads, bool called_recently) const;
    void reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, const ThreadPlan& plan, Workspace& workspace,
                 std::ptrdiff_t most_rows_between = PTRDIFF_MAX) const;
    void reserve(const NodeRun& run, const ThreadPlan& plan, Workspace& workspace) const;
    // The run with its rows in order, which lies in the workspace.
    static NodeRun in_order(const NodeRun& run, Workspace& workspace);
    // False if there are no threads for it, or no longer, and the run is all to be done.
    bool run_team(const NodeRun& run, const ThreadPlan& plan, Workspace& workspace) const;
    std::ptrdiff_t piece_steps(std::ptrdiff_t steps, std::ptrdiff_t batch) const;
    bool in_pieces(const NodeRun& run) const { return piece_steps(run.steps, run.batch) < run.steps; }
    // The steps from `first` on; `steps` of them, as far as there are so many.
    NodeRun part_of(const NodeRun& run, std::ptrdiff_t first, std::ptrdiff_t steps, const Worker& worker) const;
    TraceView trace_after(const TraceView& trace, std::ptrdiff_t rows) const;
    // These return false if the run was stopped, as PackedCell::run does.
    bool run_pieces(const NodeRun& run, const Worker& worker) const;
    bool run_layers(const NodeRun& run, const Worker& worker) const;
    bool run_wavefront(const NodeRun& run, const Worker& worker, Progress& progress) const;
    // `first_row` is where the run's rows begin in what is kept between layers.
    bool run_cell(const NodeRun& run, std::ptrdiff_t layer, std::ptrdiff_t direction, std::ptrdiff_t first_row,
                  const Worker& worker) const;

    Geometry geometry_;
    const KernelTable* kernels_;
    std::vector<float> input_scales_;
    std::vector<PackedCell> cells_;
    Operations step_operations_;
    bool cells_can_step_ = true;
    int passes_ = 0;    // of a step of any layer
};

}    // namespace fusedcell
