// A layer in one direction as it is trained: the run that saves what the way back needs, and the way back, with the
// order of operations of kernels/generic/training.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernel_api.h"
#include "model/checkpoint.h"
#include "model/draws.h"
#include "model/geometry.h"
#include "model/packed_linear.h"
#include "model/rows.h"
#include "model/team.h"
#include "pack/aligned_buffer.h"

namespace fusedcell {

// Shapes: T steps, B batch rows, I inputs, H units, P outputs, G gates. What the cell does not have is null.
struct TrainingRun {
    CellKind kind;
    bool reverse;    // from each row's last step to its first; y stays aligned with x
    std::ptrdiff_t steps, batch, inputs, units;
    std::ptrdiff_t outputs;         // H where there is no projection
    SequenceView<const float> x;    // (T, B, I)
    SequenceView<float> y;          // (T, B, P); past a row's end zero, and so from the start
    const float* weight_ih;         // (G * H, I)
    const float* weight_hh;         // (G * H, P)
    const float* weight_hr;         // (P, H) or null: there is no projection
    const float* bias_ih;           // (G * H,) or null
    const float* bias_hh;           // likewise
    const float* h_0;               // (B, P)
    const float* c_0;               // (B, H)
    const std::int64_t* lengths;    // (B,) in [0, T], or null: every row has T steps
    const bool* mask;               // (T, B): where false, the step is left out and the state held, or null
    const bool* resets;             // (T, B): where true, the state starts anew, from zero, or null
    Draws recurrent_dropout;        // of h where R meets it; a row's draw at time 0 is that of all its steps
    Draws zoneout_h;                // of h and c: what is not taken of a step's is as it was before; no projection
    Draws zoneout_c;
    bool expects_zoneout;    // not a draw, but the mean over draws
    float* gates;            // saved: T * B rows of gate_floats(), or null: they are made again on the way back
    float* raw;              // saved: (T, B, H), what raw_of() says, or null likewise
    float* c;                // saved: (T, B, H)
};

// What of a step's state the way back needs as it was before a projection or zoneout.
enum class RawState { none, h, c };

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
    float* weight_hr;
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
        std::vector<float> sums;       // R h of a step
        std::vector<float> gates;      // where they are not saved
        std::vector<float> dropped;    // h of a step as R meets it
        std::vector<float> states;     // h and c that are not kept, of a step
        std::vector<LinearRow> linear_rows;
        std::vector<TrainingRow> rows;
        std::vector<OuterRow> outer_rows;
        std::vector<float> outer;    // the outer products' scratch
        std::vector<float> d;        // of a segment of a linear map, a thread's share
    };
    AlignedBuffer packed;
    AlignedBuffer packed_back;
    AlignedBuffer d;                  // of a segment
    std::vector<float> dh;            // (B, P) through R
    std::vector<float> dc;            // (B, H), and for the GRU dh past R
    std::vector<float> dh_of_cell;    // (B, H) by h before a projection or zoneout
    std::vector<float> held;          // (B, 2, H) dh and dc past a step, by zoneout
    std::vector<float> h_factors;     // (B, P) of recurrent dropout
    std::vector<float> dropped;       // of a segment, h as R met it
    std::vector<float> dy;            // of a segment, the derivatives by what a projection gave
    std::vector<float> gates;         // of a segment, as the next, made again
    std::vector<float> raw;
    std::vector<float> zeros;    // a state
    std::vector<Worker> workers;

    std::size_t nbytes() const;
};

/// Whether this build trains cells of the kind.
bool can_train(CellKind kind, const KernelTable& table);
/// Floats of a row of what is saved of the gates.
std::ptrdiff_t gate_floats(CellKind kind, std::ptrdiff_t units, const KernelTable& table);
RawState raw_of(const TrainingRun& run);
/// Multiply-adds of a run there; as many for x's and as many for the weights' derivatives.
double operations_of(const TrainingRun& run);

/// Leaves y, and gates and c for run_backward; h_n and c_n, (B, H), as they are after each row's last step. On
/// `num_threads` threads, which share out the rows. The checkpoint may be null; where it stops a run, nothing is done
/// for certain.
void run_forward(const TrainingRun& run, float* h_n, float* c_n, const KernelTable& table, TrainingSpace& space,
                 int num_threads, Checkpoint* checkpoint);
void run_backward(const TrainingRun& run, const TrainingGradients& gradients, const KernelTable& table,
                  TrainingSpace& space, int num_threads, Checkpoint* checkpoint);

/// y = x but for what is dropped, and the rest times the draws' scale, x contiguous (T, B, size). It is its own way
/// back.
void run_dropout(const float* x, float* y, std::ptrdiff_t steps, std::ptrdiff_t batch, std::ptrdiff_t size,
                 const Draws& draws, Checkpoint* checkpoint);

/// Of a linear map, with the same order of operations: the rows are the steps of one sequence.
void run_linear_forward(const LinearTraining& run, float* y, const KernelTable& table, TrainingSpace& space,
                        int num_threads, Checkpoint* checkpoint);
void run_linear_backward(const LinearTraining& run, const LinearGradients& gradients, const KernelTable& table,
                         TrainingSpace& space, int num_threads, Checkpoint* checkpoint);

}    // namespace fusedcell
