// One call of a model: rows of sequences in, every result for which there are rows, rows out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/model_stream.h"

namespace fusedcell {

// Views of a sequence's counts, in the order of model_plan.h.
struct SequenceCounts {
    SequenceCounts(const Network& model, std::int64_t* counts)
        : front(counts),
          rows(front + model.num_values()),
          results(rows + model.num_values()),
          taken(results + model.nodes().size()) {}

    std::int64_t* front;
    std::int64_t* rows;
    std::int64_t* results;
    std::int64_t* taken;
};

class ModelRun {
public:
    /// `sequences` are of this plan; memory for so many has been reserved.
    ModelRun(const Network& model, const ModelPlan& plan, const Sequence* sequences, std::ptrdiff_t num_sequences,
             ModelWorkspace& workspace, int num_threads = 1, Checkpoint* checkpoint = nullptr)
        : model_(model),
          plan_(plan),
          sequences_(sequences),
          num_sequences_(num_sequences),
          workspace_(workspace),
          num_threads_(num_threads),
          checkpoint_(checkpoint) {}

    static void reserve(const Network& model, const ModelPlan& plan, std::ptrdiff_t sequences,
                        ModelWorkspace& workspace);

    /// Rows [first, first + rows) of the inputs, as far as a sequence has so many where `lengths` are given.
    void give(const ModelRows<const float>* inputs, std::ptrdiff_t first, std::ptrdiff_t rows,
              const std::int64_t* lengths = nullptr);
    /// Every result that there is, in the order of nodes; `has_ended`: no more rows will come. False if stopped.
    bool advance(bool has_ended);
    /// Rows of outputs that have not been taken, from the first row of an output on. `counts`, which may be null, gets
    /// how many of each the sequence with most has, or `least`; of one that has fewer, NaN comes first. With `is_whole`
    /// each row goes to its place of the whole sequence.
    void take(const ModelRows<float>* outputs, std::int64_t* counts, bool is_whole = false, std::int64_t least = 0);

private:
    // Of the sequences that have new rows for a layer.
    struct LayerRows {
        std::ptrdiff_t steps;    // of the one that has most
        std::ptrdiff_t batch;
        bool are_equal;
        SequenceView<const float> x{};
        SequenceView<float> y{};
    };

    std::int64_t new_results(std::size_t node, const SequenceCounts& counts, bool has_ended) const;
    float* row(const Sequence& sequence, const SequenceCounts& counts, std::size_t value, std::int64_t row) const;
    /// Makes room for so many more rows of a value; returns where they are to lie, and counts them in.
    float* add_rows(const Sequence& sequence, const SequenceCounts& counts, std::size_t value, std::int64_t rows);
    /// Where the zeros of right padding lie.
    void end_value(std::size_t value);
    const float* window(const ModelNode& node, const Sequence& sequence, const SequenceCounts& counts,
                        std::int64_t index, float* room) const;
    float* copy_row(const ModelNode& node, const Sequence& sequence, const SequenceCounts& counts, std::int64_t index,
                    float* room) const;
    void run_windows(std::size_t node, bool has_ended);
    void run_layer(std::size_t node, bool has_ended);
    /// With x and y of its own, (T, B, size).
    void run_layer_on_copies(std::size_t node, const LayerRows& rows);
    void run_last(std::size_t node, bool has_ended);
    void run_pool(std::size_t node, bool has_ended);

    const Network& model_;
    const ModelPlan& plan_;
    const Sequence* sequences_;
    std::ptrdiff_t num_sequences_;
    ModelWorkspace& workspace_;
    int num_threads_;
    Checkpoint* checkpoint_;
};

}    // namespace fusedcell
