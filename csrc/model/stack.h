// Stacked and bidirectional layers: immutable weights, shared by any number of runs and streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "model/geometry.h"
#include "model/packed_cell.h"
#include "model/thread_trials.h"

namespace fusedcell {

// Shapes as in CellRun, with L layers and D directions; states are layer-major, then direction.
struct StackRun {
    std::ptrdiff_t steps;
    std::ptrdiff_t batch;
    SequenceView<const float> x;    // (T, B, I)
    SequenceView<float> y;          // (T, B, D * P)
    StateView states;
    const std::int64_t* lengths;        // (B,) in [0, T], or null; falling where x and y are packed
    SequenceView<const bool> mask{};    // (T, B), of every layer and direction; null data: all true
    TraceView trace{};                  // of the first layer and direction, zero from the start
    std::ptrdiff_t trace_rows = 0;      // from one layer and direction to the next, counted as TraceView does
    // Of a long run, or null. Where it stops a run, y, h_n and c are left as far as they had come.
    Checkpoint* checkpoint = nullptr;
    const std::ptrdiff_t* order = nullptr;    // as in CellRun; made where it is needed
    std::ptrdiff_t state_rows = 0;            // from one layer and direction to the next, where not B

    /// Of packed x and y, the same of both, (T + 1,) with the number of rows at the end; else null.
    const std::ptrdiff_t* offsets() const { return x.offsets; }
    /// Steps of all rows together, each up to its length.
    double rows() const;
};

// What runs on one stack, one after another, work in. It only grows. `backward` is the direction in which the next step
// walks the packed weights of every layer.
struct Workspace {
    std::vector<SharedSpace> shared;         // one a group of threads, see Stack::run
    std::vector<ThreadSpace> own;            // one a thread
    std::vector<float> between_layers[2];    // of the steps in hand
    std::vector<std::ptrdiff_t> order;       // of rows
    bool backward = false;
    std::chrono::steady_clock::time_point last_call{};    // that was for more than one thread
    ThreadTrials trials;

    std::size_t nbytes() const {
        std::size_t total = bytes_of(between_layers[0], between_layers[1], order);
        for (const SharedSpace& space : shared) total += sizeof space + space.nbytes();
        for (const ThreadSpace& space : own) total += sizeof space + space.nbytes();
        return total;
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
    Stack(const Geometry& geometry, const std::vector<CellWeights>& weights, const KernelTable& kernels,
          std::vector<float> input_scales = {});

    /// The weights as they are stored, halves widened to float; layer-major, then direction.
    std::vector<UnpackedCell> unpack() const;

    /// Runs in the kernels' floating-point mode and gives the caller's back. y must not overlap x. Uses up to
    /// `num_threads` threads, as many as pay and as there are CPUs; the bits do not depend on it.
    void run(const StackRun& run, Workspace& workspace, int num_threads = 1) const;

    /// Whether a run of so many rows is too small for threads ever to pay, a row at one step counting as one.
    bool is_small(double rows) const;

    /// The same for one step of one row on one thread: x (I,), y (P,), and the states (L, P) and (L, H), updated in
    /// place. The stack has one direction. Room for it has been made.
    void step(const float* x, float* y, float* h, float* c, Workspace& workspace) const;

    /// One step of rows whose states lie anywhere: x (N, I), y (N, P). The stack has one direction that runs forwards.
    /// Takes the rows in parts of at most kMostRows, so that its memory has a bound and stays in cache, and reads the
    /// weights once for each part. If there is no memory, it throws before any state has changed.
    void step_rows(const float* x, float* y, const RowState* rows, std::ptrdiff_t num_rows, Workspace& workspace,
                   int num_threads = 1) const;
    static constexpr std::ptrdiff_t kMostRows = 128;

    /// The same, shared out as the caller says: groups of at most kMostGroups, directions or a wavefront only where
    /// there are two directions, or one that runs forwards. If another run has the workers, this one goes on alone.
    void run(const StackRun& run, Workspace& workspace, const ThreadPlan& plan) const;
    static constexpr int kMostGroups = 8;

    /// Makes room for runs of up to `steps` steps whose threads share one direction, so that they will not allocate.
    void reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, Workspace& workspace, int num_threads = 1) const;

    const Geometry& geometry() const { return geometry_; }
    /// Layer-major, then direction.
    const CellOptions& options(std::size_t cell) const { return cells_[cell].options(); }
    std::size_t num_cells() const { return cells_.size(); }
    const KernelTable& kernels() const { return *kernels_; }
    CellTypes types(std::size_t cell) const { return cells_[cell].types(); }
    /// The type of all matrices; none where they differ.
    std::optional<WeightType> type() const;

    /// The fixed scales of int8 inputs, one a layer, or none if each row has its own.
    const std::vector<float>& input_scales() const { return input_scales_; }

    /// Bytes of packed weights.
    std::size_t nbytes() const;

    /// Those of them that are matrices, with what pads these to whole vectors.
    std::size_t matrix_nbytes() const;

    /// Multiply-adds of one step of one batch row.
    double step_operations() const { return step_operations_.sum(); }

private:
    struct Worker;
    class Progress;

    ThreadPlan plan(const StackRun& run, double rows, int num_threads, bool called_recently) const;
    void reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, const ThreadPlan& plan, Workspace& workspace,
                 std::ptrdiff_t most_rows_between = PTRDIFF_MAX) const;
    void reserve(const StackRun& run, const ThreadPlan& plan, Workspace& workspace) const;
    // The run with its rows in order, which lies in the workspace.
    static StackRun in_order(const StackRun& run, Workspace& workspace);
    // False if there are no threads for it, or no longer, and the run is all to be done.
    bool run_team(const StackRun& run, const ThreadPlan& plan, Workspace& workspace) const;
    std::ptrdiff_t piece_steps(std::ptrdiff_t steps, std::ptrdiff_t batch) const;
    bool in_pieces(const StackRun& run) const { return piece_steps(run.steps, run.batch) < run.steps; }
    // The steps from `first` on; `steps` of them, as far as there are so many.
    StackRun part_of(const StackRun& run, std::ptrdiff_t first, std::ptrdiff_t steps, const Worker& worker) const;
    TraceView trace_after(const TraceView& trace, std::ptrdiff_t rows) const;
    // These return false if the run was stopped, as PackedCell::run does.
    bool run_pieces(const StackRun& run, const Worker& worker) const;
    bool run_layers(const StackRun& run, const Worker& worker) const;
    bool run_wavefront(const StackRun& run, const Worker& worker, Progress& progress) const;
    // `first_row` is where the run's rows begin in what is kept between layers.
    bool run_cell(const StackRun& run, std::ptrdiff_t layer, std::ptrdiff_t direction, std::ptrdiff_t first_row,
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
