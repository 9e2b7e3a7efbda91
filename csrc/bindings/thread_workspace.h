// The memory in which this thread's calls work, one after another, so that few of them allocate.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "model/model_stream.h"
#include "model/rows.h"
#include "model/training.h"
#include "model/workspace.h"

namespace fusedcell::bindings {

// Of one call. What a large one needed is given back at its end. A call that a signal handler makes in the middle of
// another one has memory of its own.
class ThreadWorkspace {
public:
    ThreadWorkspace() : inner_(kept().in_use ? std::make_unique<Memory>() : nullptr) { kept().in_use = true; }
    ~ThreadWorkspace() {
        if (inner_) return;
        constexpr std::size_t kMostBytes = std::size_t{1} << 22;
        // What trains a layer calls again and again, and needs memory for the layer's weights twice.
        constexpr std::size_t kMostBytesOfTraining = std::size_t{1} << 25;
        Memory& memory = kept().memory;
        if (memory.training.nbytes() > kMostBytesOfTraining) memory.training = {};
        if (memory.runs.nbytes() > kMostBytes) memory.runs = {};
        kept().in_use = false;
    }
    ThreadWorkspace(const ThreadWorkspace&) = delete;
    ThreadWorkspace& operator=(const ThreadWorkspace&) = delete;

    Workspace& get() { return memory().runs.workspace; }
    /// h of a step, which the run updates in place.
    std::vector<float>& state() { return memory().runs.state; }
    /// Where the states of many streams lie.
    std::vector<RowState>& rows() { return memory().runs.rows; }
    /// The same of layers that are trained.
    TrainingSpace& training() { return memory().training; }
    /// The same of models.
    ModelWorkspace& model() { return memory().runs.model; }
    std::vector<NetworkStream::StreamRow>& stream_rows() { return memory().runs.stream_rows; }

private:
    struct Runs {
        Workspace workspace;
        std::vector<float> state;
        std::vector<RowState> rows;
        ModelWorkspace model;
        std::vector<NetworkStream::StreamRow> stream_rows;

        std::size_t nbytes() const { return workspace.nbytes() + model.nbytes() + bytes_of(state, rows, stream_rows); }
    };
    struct Memory {
        Runs runs;
        TrainingSpace training;
    };
    struct Kept {
        Memory memory;
        bool in_use = false;
    };
    static Kept& kept() {
        thread_local Kept kept;
        return kept;
    }
    Memory& memory() { return inner_ ? *inner_ : kept().memory; }

    std::unique_ptr<Memory> inner_;
};

}    // namespace fusedcell::bindings
