// Stacked and bidirectional layers: immutable weights, shared by any number of runs and streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/geometry.h"
#include "model/packed_cell.h"
#include "model/thread_trials.h"

namespace fusedcell {

// Shapes as in CellRun, with L layers and D directions; states are layer-major, then direction.
struct StackRun {
    std::ptrdiff_t steps;
    std::ptrdiff_t batch;
    SequenceView<const float> x;        // (T, B, I)
    SequenceView<float> y;              // (T, B, D * P)
    const float* h_0;                   // (L * D, B, P)
    float* h_n;                         // (L * D, B, P); may be h_0
    float* c;                           // (L * D, B, H), updated in place; null without a cell state
    const std::int64_t* lengths;        // (B,) in [0, T], or null
    SequenceView<const bool> mask{};    // (T, B), of every layer and direction; null data: all true
    TraceView trace{};                  // of the first layer and direction, zero from the start
    std::ptrdiff_t trace_rows = 0;      // from one layer and direction to the next, counted as TraceView does
};

// What runs on one stack, one after another, work in. It only grows. `backward` is the direction in which the next step
// walks the packed weights of every layer.
struct Workspace {
    std::vector<SharedSpace> shared;         // one a group of threads, see Stack::run
    std::vector<ThreadSpace> own;            // one a thread
    std::vector<float> between_layers[2];    // of the steps in hand
    bool backward = false;
    std::chrono::steady_clock::time_point last_call{};    // that was for more than one thread
    ThreadTrials trials;

    /// Bytes of what grows with the steps of a run, which is nearly all.
    std::size_t nbytes() const {
        std::size_t floats = between_layers[0].size() + between_layers[1].size();
        for (const SharedSpace& space : shared) floats += space.projections.size() + space.cell.size();
        for (const ThreadSpace& space : own) floats += space.quantised_x.size();
        return floats * sizeof(float);
    }
};

// How a run is shared out among threads.
struct ThreadPlan {
    int threads = 1;
    int groups = 1;            // of threads; each takes one direction, or every groups-th layer
    bool wavefront = false;    // the groups take layers, each some steps behind the layer below
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

    /// Runs in the kernels' floating-point mode and gives the caller's back. y must not overlap x. Uses up to
    /// `num_threads` threads, as many as pay and as there are CPUs; the bits do not depend on it.
    void run(const StackRun& run, Workspace& workspace, int num_threads = 1) const;

    /// Whether a run is too small for threads ever to pay.
    bool is_small(std::ptrdiff_t steps, std::ptrdiff_t batch) const;

    /// The same for one step of one row on one thread: x (I,), y (P,), and the states (L, P) and (L, H), updated in
    /// place. The stack has one direction. Room for it has been made.
    void step(const float* x, float* y, float* h, float* c, Workspace& workspace) const;

    /// The same, shared out as the caller says: groups of at most kMostGroups, directions or a wavefront only where
    /// there are two directions, or one that runs forwards. If another run has the workers, this one goes on alone.
    void run(const StackRun& run, Workspace& workspace, const ThreadPlan& plan) const;
    static constexpr int kMostGroups = 8;

    /// Makes room for runs of up to `steps` steps on one thread, so that they will not allocate.
    void reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, Workspace& workspace) const;

    const Geometry& geometry() const { return geometry_; }
    /// Layer-major, then direction.
    const CellOptions& options(std::size_t cell) const { return cells_[cell].options(); }
    std::size_t num_cells() const { return cells_.size(); }
    const KernelTable& kernels() const { return *kernels_; }
    WeightType type() const { return type_; }

    /// The fixed scales of int8 inputs, one a layer, or none if each row has its own.
    const std::vector<float>& input_scales() const { return input_scales_; }

    /// Bytes of packed weights.
    std::size_t nbytes() const;

    /// Multiply-adds of one step of one batch row.
    double step_operations() const { return step_operations_; }

private:
    struct Worker;
    class Progress;

    ThreadPlan plan(const StackRun& run, int num_threads, bool called_recently) const;
    void reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, const ThreadPlan& plan, Workspace& workspace) const;
    bool run_team(const StackRun& run, const ThreadPlan& plan, Workspace& workspace) const;
    std::ptrdiff_t piece_steps(std::ptrdiff_t steps, std::ptrdiff_t batch) const;
    bool in_pieces(const StackRun& run) const { return piece_steps(run.steps, run.batch) < run.steps; }
    StackRun part_of(const StackRun& run, std::ptrdiff_t first, std::ptrdiff_t steps, const Worker& worker) const;
    TraceView trace_after(const TraceView& trace, std::ptrdiff_t rows) const;
    void run_pieces(const StackRun& run, const Worker& worker) const;
    void run_layers(const StackRun& run, const Worker& worker) const;
    void run_wavefront(const StackRun& run, const Worker& worker, Progress& progress) const;
    void run_cell(const StackRun& run, std::ptrdiff_t layer, std::ptrdiff_t direction, std::ptrdiff_t first_step,
                  const Worker& worker) const;

    Geometry geometry_;
    WeightType type_;
    const KernelTable* kernels_;
    std::vector<float> input_scales_;
    std::vector<PackedCell> cells_;
    double step_operations_ = 0;
    bool cells_can_step_ = true;
    int passes_ = 0;    // of a step of any layer
};

}    // namespace fusedcell
