// The memory that runs work in and that does not outlive them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernel_api.h"
#include "model/packed_linear.h"
#include "model/thread_trials.h"

namespace fusedcell {

// It only grows, so a run that fits what an earlier one needed allocates nothing. The threads of a run share one of
// these ...
struct SharedSpace {
    std::vector<float> projections;    // input projections of the steps in hand
    std::vector<float> cell;           // per batch row: update and reset_h, or the hidden state before its projection
    std::vector<float> sums;           // per batch row: recurrent parts, for the gate kernels of cells with options

    std::size_t nbytes() const { return bytes_of(projections, cell, sums); }
};

// ... and have each one of their own, on cache lines of its own.
struct alignas(64) ThreadSpace {
    InputSpace x;    // of the input projection
    InputSpace h;    // of a step
    std::vector<LinearRow> linear_rows;
    std::vector<CellRow> cell_rows;
    std::vector<LinearRow> recurrent_rows;    // of a cell with options
    std::vector<const float*> previous_h;
    std::vector<StepTrace> traces;
    std::vector<std::int64_t> lengths;      // of a part of the run
    std::vector<std::ptrdiff_t> offsets;    // likewise
    bool backward = false;                  // the way through the packed weights; it alternates from step to step

    std::size_t nbytes() const {
        return x.nbytes() + h.nbytes() +
               bytes_of(linear_rows, cell_rows, recurrent_rows, previous_h, traces, lengths, offsets);
    }
};

// What runs on one node, one after another, work in. `backward` is the direction in which the next step walks the
// packed weights of every layer.
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

}    // namespace fusedcell
