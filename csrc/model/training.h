// A layer in one direction as it is trained: the run that saves what the way back needs, and the way back, with the
// order of operations of kernels/generic/training.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernel_api.h"
#include "model/checkpoint.h"
#include "model/geometry.h"
#include "model/packed_linear.h"
#include "model/rows.h"
#include "model/team.h"
#include "pack/aligned_buffer.h"

namespace fusedcell {

// Shapes: T steps, B batch rows, I inputs, H units, G gates. What the cell does not have is null.
struct TrainingRun {
    CellKind kind;
    bool reverse;    // from each row's last step to its first; y stays aligned with x
    std::ptrdiff_t steps, batch, inputs, units;
    SequenceView<const float> x;    // (T, B, I)
    SequenceView<float> y;          // (T, B, H); past a row's end zero, and so from the start
    const float* weight_ih;         // (G * H, I)
    const float* weight_hh;         // (G * H, H)
    const float* bias_ih;           // (G * H,) or null
    const float* bias_hh;           // likewise
    const float* h_0;               // (B, H)
    const float* c_0;               // likewise
    const std::int64_t* lengths;    // (B,) in [0, T], or null: every row has T steps
    const bool* resets;             // (T, B): where true, the state starts anew, from zero, or null
    float* gates;                   // saved: T * B rows of gate_floats()
    float* c;                       // saved: (T, B, H)
};

// The loss's derivatives by what a run returned, null for zeros, and by what it was given, null where nobody asks.
struct TrainingGradients {
    SequenceView<const float> y;
    const float* h_n;
    const float* c_n;
    SequenceView<float> x;    // zero from the start where rows have lengths
    float* h_0;
    float* c_0;
    float* weight_ih;
    float* weight_hh;
    float* bias_ih;
    float* bias_hh;
};

// y = b + W x of each row.
struct LinearTraining {
    std::ptrdiff_t rows, inputs, outputs;
    const float* x;         // (rows, inputs)
    const float* weight;    // (outputs, inputs)
    const float* bias;      // (outputs,) or null
};

// The loss's derivatives by y and by what a run was given, null where nobody asks.
struct LinearGradients {
    const float* y;    // (rows, outputs)
    float* x;
    float* weight;
    float* bias;
};

// Memory of runs, which only grows.
struct TrainingSpace {
    struct alignas(64) Worker {
        std::vector<float> sums;           // R h of a step
        std::vector<float> projections;    // where gates are not saved
        std::vector<LinearRow> linear_rows;
        std::vector<TrainingRow> rows;
        std::vector<OuterRow> outer_rows;
        std::vector<float> outer;    // the outer products' scratch
        std::vector<float> d;        // of a segment of a linear map, a thread's share
    };
    AlignedBuffer packed;
    AlignedBuffer d;             // of a segment
    std::vector<float> dh;       // (B, H) through R, and for the GRU past it
    std::vector<float> dc;       // (B, H)
    std::vector<float> zeros;    // a state
    std::vector<Worker> workers;

    std::size_t nbytes() const;
};

/// Whether this build trains cells of the kind.
bool can_train(CellKind kind, const KernelTable& table);
/// Floats of a row of what is saved of the gates.
std::ptrdiff_t gate_floats(CellKind kind, std::ptrdiff_t units, const KernelTable& table);
/// Multiply-adds of a run there; as many for x's and as many for the weights' derivatives.
double operations_of(const TrainingRun& run);

/// Leaves y, and gates and c for run_backward; h_n and c_n, (B, H), as they are after each row's last step. On
/// `num_threads` threads, which share out the rows. The checkpoint may be null; where it stops a run, nothing is done
/// for certain.
void run_forward(const TrainingRun& run, float* h_n, float* c_n, const KernelTable& table, TrainingSpace& space,
                 int num_threads, Checkpoint* checkpoint);
void run_backward(const TrainingRun& run, const TrainingGradients& gradients, const KernelTable& table,
                  TrainingSpace& space, int num_threads, Checkpoint* checkpoint);

/// Of a linear map, with the same order of operations: the rows are the steps of one sequence.
void run_linear_forward(const LinearTraining& run, float* y, const KernelTable& table, TrainingSpace& space,
                        int num_threads, Checkpoint* checkpoint);
void run_linear_backward(const LinearTraining& run, const LinearGradients& gradients, const KernelTable& table,
                         TrainingSpace& space, int num_threads, Checkpoint* checkpoint);

}    // namespace fusedcell
