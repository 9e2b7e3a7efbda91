// One layer in one direction: its packed weights, and running it over a sequence.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernel_api.h"
#include "model/geometry.h"
#include "model/packed_linear.h"
#include "model/rows.h"
#include "model/team.h"
#include "model/workspace.h"
#include "pack/aligned_buffer.h"

namespace fusedcell {

// A thread's part in a run, and what memory it works in.
struct CellWorker {
    SharedSpace& shared;
    ThreadSpace& own;
    TeamPart part;
};

// Shapes: T steps, B batch rows, I inputs, H = hidden_size, P = output_size.
struct CellRun {
    std::ptrdiff_t steps;
    std::ptrdiff_t batch;
    SequenceView<const float> x;      // (T, B, I)
    SequenceView<float> y;            // (T, B, P)
    StateView states;                 // of this layer and direction
    const std::int64_t* lengths;      // (B,) in [0, T], or null: every row has T steps
    SequenceView<const bool> mask;    // (T, B): where false, the state is held and y repeats it; null data: all true
    TraceView trace;                  // zero from the start; c is held like the state, and gates are zero, where masked
    bool reverse;                     // from each row's last step to its first; y stays aligned with x
    const std::ptrdiff_t* order;      // (B,): the rows by falling lengths; null: they lie so
};

/// Whether two arrays share no float.
inline bool are_apart(const float* a, std::ptrdiff_t a_size, const float* b, std::ptrdiff_t b_size) {
    const auto address = [](const float* p) { return reinterpret_cast<std::uintptr_t>(p); };
    return address(a + a_size) <= address(b) || address(b + b_size) <= address(a);
}

// One step of one row, sizes as above. h is not changed.
struct CellStep {
    const float* x;
    const float* h;
    float* y;    // the new h
    float* c;    // updated in place; null without a cell state
};

// Owned arrays of one layer and direction, in the layout of CellWeights. The biases are as the kernels have them: all
// that is added to the input's projection is in bias_ih.
struct UnpackedCell {
    UnpackedMatrix weight_ih, weight_hh, weight_hr;
    std::vector<float> bias_ih, bias_hh;
    std::vector<float> weight_peephole;    // empty where there is none
    CellOptions options;

    CellWeights view() const;
};

// Multiply-adds, by how fast they are.
struct Operations {
    double floats = 0;
    double int8 = 0;

    double sum() const { return floats + int8; }
};

// The part of a matrix's blocks that is stored; 1 of one that is not sparse.
struct CellDensities {
    double weight_ih;
    double weight_hh;
    double weight_hr;
};

class PackedCell {
public:
    /// `input_scale` is the fixed scale of x in int8, or 0 if each row has its own.
    PackedCell(const Geometry& geometry, std::ptrdiff_t input_size, const CellWeights& weights, float input_scale,
               const KernelTable& table);

    /// From here on x is a token, a whole number in a float, that stands for its row of `table` (entries, I), whose
    /// projection has been computed once and for all: the same bits. Outside the table it is NaN.
    void fold_inputs(const float* table, std::ptrdiff_t entries);
    /// Floats of memory that this takes.
    std::ptrdiff_t folded_floats(std::ptrdiff_t entries) const;

    /// y past a row's length is zero, and the states are what they were after its last step. Every thread of a team
    /// calls it and finds all of that done when it returns. The worker's memory has been reserved. Returns false if the
    /// run was stopped, and then nothing is done for certain.
    bool run(const CellRun& run, const CellWorker& worker) const;

    /// The same for one step of one row on one thread. Only where can_step(): cells without options or a
    /// projection of h.
    void step(const CellStep& step, SharedSpace& shared, ThreadSpace& own) const {
        const bool has_zeros = input_.has_zeros(step.x, own.x);
        if (!has_zeros && step_kernel_ != nullptr && are_apart(step.x, input_size_, step.y, geometry_.hidden_size)) {
            const StepRow row{step.x,
                              step.h,
                              step.y,
                              step.c,
                              shared.projections.data(),
                              input_.room(own.x),
                              recurrent_.room(own.h),
                              input_scale_,
                              state_scale(),
                              recurrent_.quantise()};
            recurrent_.step(step_kernel_, input_, row, own.backward);
        } else {
            step_in_passes(step, has_zeros, shared, own);
        }
    }
    bool can_step() const { return !general_ && geometry_.proj_size == 0; }

    /// Steps of a batch whose input projections a long run computes at a time.
    static std::ptrdiff_t projection_steps(std::ptrdiff_t batch);

    /// Makes room for a run of `steps` steps, so that it will not allocate.
    void reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, SharedSpace& shared) const;
    void reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, ThreadSpace& own) const;

    /// The weights as they are stored, in PyTorch layout; halves are widened to float.
    UnpackedCell unpack() const;

    /// The peephole is not for the caller: it is in panel order.
    const CellOptions& options() const { return options_; }

    std::size_t nbytes() const { return memory_.size() + bytes_of(folded_); }
    /// Those of them that are weights of matrices, with what pads these to whole vectors.
    std::size_t matrix_nbytes() const;

    CellDensities densities() const;
    CellTypes types() const { return {input_.type(), recurrent_.type(), output_.type()}; }

    /// Passes of a step, after each of which threads meet.
    int passes() const;

    /// Those of one step of one batch row.
    Operations step_operations() const;

private:
    using CellKernel = KernelName<CellRow>;
    static constexpr CellKernel kCandidateKernel = &WeightKernels::gru_reset_before_candidate;

    // Steps [first, first + steps) of a run in the order they are taken: step s of a row is time s, or length - 1 - s
    // in reverse.
    struct Chunk {
        std::ptrdiff_t first;
        std::ptrdiff_t steps;
        std::ptrdiff_t rows;    // that have the first of them
    };

    static std::ptrdiff_t chunk_steps(std::ptrdiff_t steps, std::ptrdiff_t batch);
    /// Of any of up to `batch` rows.
    static std::ptrdiff_t most_rows_of_chunk(std::ptrdiff_t steps, std::ptrdiff_t batch);
    /// Fills in the rows of the input projection, or of one step, with their inputs as the kernels want them; returns
    /// how many there are.
    std::ptrdiff_t gather_inputs(const CellRun& run, const Chunk& chunk, const CellWorker& worker) const;
    const float* folded_projection(const float* token) const;
    /// `rows_of_step` rows have the step, and `projections` are theirs.
    std::ptrdiff_t gather_step(const CellRun& run, std::ptrdiff_t step, std::ptrdiff_t rows_of_step,
                               const float* projections, const CellWorker& worker) const;
    /// Whether a run takes one row at a time on one thread with nothing left out, where only one has steps left. Then
    /// run_row takes them after the input projection; it returns false if the run was stopped.
    bool can_run_row(const CellRun& run, const TeamPart& part) const;
    bool run_row(const CellRun& run, const Chunk& chunk, double operations, const CellWorker& worker) const;
    /// For the GRU that resets before, what its first pass leaves for its second, 2 * padded_hidden_ floats.
    void make_room(CellRow& row, float* room) const {
        if (kind_ != CellKind::kGruResetBefore) return;
        row.update = room;
        row.reset_h = room + padded_hidden_;
    }
    /// By W, of inputs that has_zeros() has looked at or of others.
    static KernelName<LinearRow> input_kernel(bool has_zeros) {
        return has_zeros ? &WeightKernels::nonzero : &WeightKernels::linear;
    }
    /// A step by W, and then by R.
    void step_in_passes(const CellStep& step, bool has_zeros, SharedSpace& shared, ThreadSpace& own) const;
    /// The second pass over R of one row, of the GRU that resets before.
    void multiply_candidate(CellRow& row, SharedSpace& shared, ThreadSpace& own) const;
    /// y and trace of a row at a step that its mask leaves out.
    void hold(const CellRun& run, std::ptrdiff_t time, std::ptrdiff_t row, const float* h) const;
    StepTrace trace_of(const CellRun& run, std::ptrdiff_t time, std::ptrdiff_t row) const;
    /// Blocks of R, or of a second matrix that is multiplied alike, for all rows.
    void multiply_recurrent(const PackedLinear& matrix, CellKernel kernel, std::ptrdiff_t num_rows,
                            const BlockRange& blocks, ThreadSpace& own) const;
    /// Where the recurrent part goes to memory, the rows of a product whose `gates` results a unit a gate kernel will
    /// take, and that kernel's run on the worker's panels.
    void gather_recurrent(int gates, std::ptrdiff_t num_rows, const CellWorker& worker) const;
    bool finish_gates(GateKernel kernel, int gates, std::ptrdiff_t num_rows, const CellWorker& worker) const;
    GateKernel gate_kernel() const;
    GateKernel candidate_gate_kernel() const;
    /// R, or a second matrix, and gates of one row.
    void multiply_row(const PackedLinear& matrix, CellKernel kernel, GateKernel gates, CellRow& row,
                      SharedSpace& shared, ThreadSpace& own) const;
    void multiply_row(CellRow& row, SharedSpace& shared, ThreadSpace& own) const;
    /// What is left of a step after the first pass over R. Like finish_gates, it returns false if the run was stopped.
    /// Of the `rows_of_step` rows that have the step, masks leave `num_rows`.
    bool finish_step(const CellRun& run, std::ptrdiff_t step, std::ptrdiff_t rows_of_step, std::ptrdiff_t num_rows,
                     const CellWorker& worker) const;
    /// W and R of a single step, block by block of R with the blocks of W that it needs, so that the next step, which
    /// comes back the other way, finds the last of both in cache.
    bool can_walk_both(const CellRun& run, const TeamPart& part) const;
    /// Whether that pays, if x and y allow it: W needs all of x before R gives the first of y.
    bool wants_to_walk_both() const {
        return memory_.size() >= kFitsNearCaches && kind_ != CellKind::kGruResetBefore && folded_.empty() &&
               !input_.is_sparse() && !recurrent_.is_sparse();
    }
    void walk_both(std::ptrdiff_t num_rows, const CellWorker& worker) const;
    /// Of h, and of r h or o h(c').
    InputScale state_scale() const {
        return {bounded_ && geometry_.proj_size == 0 ? InputScale::kBounded : InputScale::kLargest};
    }
    InputScale output_scale() const { return {bounded_ ? InputScale::kBounded : InputScale::kLargest}; }
    /// Gates of the first pass over R.
    int recurrent_gates() const { return kind_ == CellKind::kGruResetBefore ? 2 : gates_of(kind_); }
    /// Throws std::invalid_argument where this build has no kernels for the cell or a type of its weights.
    void check_built(const CellWeights& weights) const;
    void pack(const CellWeights& weights);
    void pack_peephole(const float* weights, float* destination) const;
    std::array<const PackedLinear*, 4> matrices() const { return {&input_, &recurrent_, &candidate_, &output_}; }

    // Bytes of weights that even a small second-level cache keeps from step to step, so that the way through them is
    // all one.
    static constexpr std::size_t kFitsNearCaches = std::size_t{1} << 18;

    const KernelTable* table_;
    Geometry geometry_;
    CellKind kind_;    // that of the kernels: of the plain RNNs, the one that the options make it
    CellOptions options_;
    bool general_ = false;    // has options
    bool has_sums_ =
        false;        // has options or a sparse R, so `linear` multiplies by R, and a gate kernel does the rest
    bool bounded_;    // as is_bounded in cell_options.h
    std::ptrdiff_t input_size_;
    InputScale input_scale_;
    std::ptrdiff_t padded_hidden_;        // hidden_size rounded up to whole vectors
    std::ptrdiff_t projection_floats_;    // of one step of one row
    AlignedBuffer memory_;
    CellKernel recurrent_kernel_;         // of cells without options
    StepKernel step_kernel_ = nullptr;    // of cells that have a step in one pass, unless x is folded
    PackedLinear input_;
    std::vector<float> folded_;    // instead of it, each token's projection and one of NaN; empty: x is not folded
    PackedLinear recurrent_;
    PackedLinear candidate_;    // R_n of the GRU that resets before; none otherwise
    PackedLinear output_;       // weight_hr; none without a projection
};

}    // namespace fusedcell
