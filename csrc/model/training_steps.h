// The steps of a layer that is trained: on the way there, and again on the way back where gates were not saved.
#pragma once

#include <cstddef>

#include "model/training_runner.h"

namespace fusedcell {

class TrainingSteps : TrainingRunner {
public:
    /// Packs the weights to the space's memory.
    TrainingSteps(const TrainingRun& run, const KernelTable& table, TrainingSpace& space);

    /// The whole run.
    void run(float* h_n, float* c_n, int num_threads, Checkpoint* checkpoint);

    // Memory of steps whose gates are made again: of step `first` on, of all rows of the batch.
    struct Again {
        std::ptrdiff_t first;
        float* gates;
        float* raw;
    };
    /// Room for a worker that has so many rows.
    void reserve(TrainingSpace::Worker& worker, std::ptrdiff_t rows) const;
    /// The steps [first, end) of some rows, on one thread. With `again`, y and c are there already, and gates and raw
    /// states go to its memory. False where the run has been stopped.
    bool run_steps(std::ptrdiff_t first, std::ptrdiff_t end, const Rows& batch, const TeamPart& part,
                   TrainingSpace::Worker& worker, const Again* again) const;

private:
    std::ptrdiff_t slot_floats() const { return saves_gates(run_.kind) ? gate_floats_ : padded_units_; }
    float* projection_of(float* slot) const { return slot + (slot_floats() - gates_ * padded_units_); }
    const float* recurrent_input(std::ptrdiff_t row, const float* h, float* dropped) const;
    void finish_step(std::ptrdiff_t step, const Rows& batch, TrainingSpace::Worker& worker) const;

    PackedLinear input_;
    PackedLinear recurrent_;
    PackedLinear projection_;    // of h, by W_hr
};

}    // namespace fusedcell
