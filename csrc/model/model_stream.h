// Sequences that go through a model, in any pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "model/checkpoint.h"
#include "model/model.h"
#include "model/model_plan.h"
#include "model/workspace.h"

namespace fusedcell {

// Rows of an input or output of the model, of all sequences of a batch: row t of sequence b from data + t * step_stride
// + b * row_stride on, in floats. Tokens are whole numbers in floats.
template <class T>
struct ModelRows {
    T* data;
    std::ptrdiff_t step_stride;
    std::ptrdiff_t row_stride;
};

// One sequence's floats and counts, as the plan has them.
struct Sequence {
    float* floats;
    std::int64_t* counts;
};

// Memory that runs work in, one after another. It only grows.
struct ModelWorkspace {
    OperationSpace operations;
    std::vector<LinearRow> rows;            // of a node
    std::vector<float> gathered;            // windows that do not lie in one piece
    std::vector<float> layer_x, layer_y;    // likewise, of a layer
    std::vector<float> layer_h, layer_c;    // of a layer that needs the whole sequence
    std::vector<RowState> states;
    std::vector<std::int64_t> lengths;
    std::vector<Sequence> sequences;
    std::vector<Sequence> with_rows;    // those that have any for a layer
    std::vector<Workspace> layers;      // one a node; used by layers

    std::size_t nbytes() const;
};

// The state of a batch of sequences.
class NetworkStream {
public:
    /// As a sequence begins. The model has streams, unless `is_whole`. Has memory for up to `block` rows at a time, so
    /// that process() and flush() allocate nothing on one thread. With `is_whole`, sequences are given whole, and where
    /// the model has no streams, in one piece.
    NetworkStream(std::shared_ptr<const Network> model, std::ptrdiff_t batch, std::ptrdiff_t block = 1,
                  bool is_whole = false);
    NetworkStream(const NetworkStream& other);
    NetworkStream& operator=(const NetworkStream&) = delete;

    const Network& model() const { return *model_; }
    const std::shared_ptr<const Network>& shared_model() const { return model_; }
    std::ptrdiff_t batch() const { return batch_; }
    std::ptrdiff_t block() const { return block_; }
    /// Rows in that can be counted, and more than anybody waits for.
    static constexpr std::int64_t kMostRows = std::int64_t{1} << 42;

    /// Takes `rows` more rows of each of the model's inputs, at most block(), and writes the rows that each of its
    /// outputs now has and had not before; `counts` gets how many, for each output. Where a sequence that was reset by
    /// itself has fewer than others, NaN comes first. Outputs do not overlap inputs.
    void process(const ModelRows<const float>* inputs, std::ptrdiff_t rows, const ModelRows<float>* outputs,
                 std::int64_t* counts, int num_threads = 1);
    /// The rows have ended: likewise of those that outputs still lack. Only reset_row() of all rows may follow.
    void flush(const ModelRows<float>* outputs, std::int64_t* counts, int num_threads = 1);
    /// How many rows process() will write of each output for so many rows, in pieces of block() where there are more,
    /// or flush() with none.
    void count(std::ptrdiff_t rows, bool is_end, std::int64_t* counts);

    /// One hop of rows of streams of one model and one block(), all different: hop_in() rows of each input, to
    /// hop_out() of each output. `counts` gets how many the one with most has, or `least`; of one that has fewer, NaN
    /// comes first. Memory is the caller's, and grows; then streams' states change.
    struct StreamRow {
        NetworkStream* stream;
        std::ptrdiff_t row;
    };
    static void step_many(const std::vector<StreamRow>& rows, const ModelRows<const float>* inputs,
                          const ModelRows<float>* outputs, std::int64_t* counts, ModelWorkspace& workspace,
                          std::int64_t least = 0);

    /// Whole sequences: `rows` rows of each input, or `lengths` (B,) of them where not null, each from 0 to `rows`.
    /// Outputs have Network::rows_out(rows) rows, of which those that a shorter sequence lacks, and answers of no rows,
    /// become zeros. Returns false if `checkpoint` stopped it. Allocates.
    static bool run_whole(const std::shared_ptr<const Network>& model, const ModelRows<const float>* inputs,
                          std::ptrdiff_t rows, std::ptrdiff_t batch, const std::int64_t* lengths,
                          const ModelRows<float>* outputs, int num_threads, Checkpoint* checkpoint);

    /// All rows, which may have ended.
    void reset();
    void reset_row(std::ptrdiff_t row);
    /// Sequence b goes on from what sequence rows[b] has had. Only while rows have not ended. Allocates.
    void reorder(const std::vector<std::ptrdiff_t>& rows);
    /// Rows of the inputs that a sequence has had.
    std::int64_t rows_in(std::ptrdiff_t row) const;
    bool has_ended() const { return has_ended_; }

    /// All that the answers of a sequence that has not ended depend on, beside rows_in(): the same floats for the same
    /// rows, however they were cut. The last num_states() of them are of layers.
    std::size_t state_floats(std::int64_t rows_in) const;
    std::size_t num_states() const { return static_cast<std::size_t>(plan_->floats - plan_->state_offset); }
    void get_state(std::ptrdiff_t row, float* state);
    void set_state(std::ptrdiff_t row, std::int64_t rows_in, const float* state);
    std::size_t nbytes() const;
    /// Of its own calls, and big enough for step_many() with its rows.
    ModelWorkspace& workspace() { return workspace_; }

private:
    void prepare();
    std::ptrdiff_t num_counts() const { return static_cast<std::ptrdiff_t>(plan_->num_counts); }
    Sequence sequence(std::ptrdiff_t row) {
        return {floats_.data() + row * plan_->floats, counts_.data() + row * num_counts()};
    }
    template <class Function>
    void for_each_state(const Sequence& sequence, const Function& function) const;

    std::shared_ptr<const Network> model_;
    std::ptrdiff_t batch_;
    std::ptrdiff_t block_;
    bool has_ended_ = false;
    std::shared_ptr<const ModelPlan> plan_;
    std::vector<float> floats_;
    std::vector<std::int64_t> counts_;
    std::vector<std::int64_t> counting_;    // what count() works in
    ModelWorkspace workspace_;
};

}    // namespace fusedcell
