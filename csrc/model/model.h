// A whole model: an ordered list of nodes over rows, immutable, shared by any number of runs and streams.
//
// Words:
//     row        what one time step of one sequence brings or leaves: `size` floats
//     value      the rows of one input of the model, or of one node's output, in order
//     source     what a node reads at each row: parts of the rows of one or more values, beside each other
//     window     the rows that one result is made of (window.h)
//     sequence   one row of a batch: what it has of all values and states lies in one piece of memory (model_plan.h)
//
// Order of operations. A call hands rows to the inputs. Then each node in turn computes every result for which there
// are now rows, and what no node needs any more is forgotten. How many results a node has is a function of how many
// rows have come, so it does not matter how they were cut; and each result is computed from its window alone, or in the
// order of the rows, so neither do its bits. At the end of the rows (flush) each node in turn gets the zeros of its
// right padding. Rows that wait for those of another value wait where they are. How many can wait is found once, from
// the counts alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/node.h"
#include "model/operation.h"
#include "model/window.h"

namespace fusedcell {

struct ModelInput {
    std::string name;
    std::ptrdiff_t size;          // features of a row; 1 of tokens
    std::ptrdiff_t tokens = 0;    // not 0: rows are whole numbers from 0 to tokens - 1
};

// Features [first, first + size) of a value's rows.
struct Part {
    std::size_t value;    // inputs first, then nodes, in order
    std::ptrdiff_t first;
    std::ptrdiff_t size;
};

struct ModelNode {
    enum class Kind {
        kWindow,    // `operation` at each window
        kLayer,     // `layer` over all rows
        kLast,      // the last row; of a stream every row, as if the sequence ended there
        kPool,      // `pool` over all rows: a row kernel whose parts are the rows
    };
    std::string name;
    Kind kind = Kind::kWindow;
    std::vector<Part> source;
    std::ptrdiff_t output_size = 0;    // features of a row out
    Window window;                     // of kWindow
    std::shared_ptr<const Operation> operation;
    std::shared_ptr<const Node> layer;
    std::vector<float> initial_h, initial_c;    // of the layer, (S, size); empty: zeros
    RowKernel pool = nullptr;
    std::ptrdiff_t reversed_from = 0;    // of kLast, if not 0: features from here on are of the first row instead

    std::ptrdiff_t input_size() const;
    /// Results need all rows first.
    bool needs_end() const;
};

struct ModelOutput {
    std::string name;
    std::size_t value;
};

class Network {
public:
    /// Sizes of sources, operations and outputs fit. Throws std::invalid_argument, which names the node, where values
    /// come together that have different numbers of rows, and where more than kMostRows would have to wait.
    Network(std::vector<ModelInput> inputs, std::vector<ModelNode> nodes, std::vector<ModelOutput> outputs,
            const KernelTable& kernels);
    static constexpr std::int64_t kMostRows = std::int64_t{1} << 20;

    const std::vector<ModelInput>& inputs() const { return inputs_; }
    const std::vector<ModelNode>& nodes() const { return nodes_; }
    const std::vector<ModelOutput>& outputs() const { return outputs_; }
    const KernelTable& kernels() const { return *kernels_; }

    std::size_t num_values() const { return inputs_.size() + nodes_.size(); }
    std::ptrdiff_t value_size(std::size_t value) const {
        return value < inputs_.size() ? inputs_[value].size : nodes_[value - inputs_.size()].output_size;
    }
    const std::string& value_name(std::size_t value) const {
        return value < inputs_.size() ? inputs_[value].name : nodes_[value - inputs_.size()].name;
    }
    std::ptrdiff_t output_size(std::size_t output) const { return value_size(outputs_[output].value); }

    /// Why rows cannot be taken one by one, naming the node; empty: they can.
    const std::string& why_no_streams() const { return no_streams_; }
    /// So many rows in give so many rows of each output, but for the first. 1 and 1 where there are no streams.
    std::int64_t hop_in() const { return hop_in_; }
    std::int64_t hop_out() const { return hop_out_; }
    /// Rows in until an output has its first row, less hop_in(); negative where padding alone gives that row.
    std::int64_t delay() const { return delay_; }
    /// Whether an output of a whole sequence has one row, whatever the sequence's length.
    bool is_pooled(std::size_t output) const { return pooled_[outputs_[output].value] != 0; }
    /// Rows of each output of a whole sequence of so many. Throws std::invalid_argument, which names the node, where
    /// values come together that have different numbers of rows then.
    std::vector<std::int64_t> rows_out(std::int64_t rows) const;

    /// Multiply-adds of one row in.
    double row_operations() const { return row_operations_; }
    /// Bytes of packed weights.
    std::size_t nbytes() const;

    // How far a sequence has come. `is_whole`: it is given whole, so that what is pooled is so at its end.
    struct Progress {
        std::int64_t rows = 0;    // of the inputs
        bool has_ended = false;
        bool is_whole = false;
    };
    /// Rows of each value, and results of each node, which are windows for a node of these.
    void count(const Progress& progress, std::int64_t* rows, std::int64_t* results) const;
    /// Results of a node whose source has so many rows.
    std::int64_t results_of(const ModelNode& node, std::int64_t rows, bool has_ended, bool is_whole) const;
    /// The first row of its source that a node still needs, which may be one of the zeros before the first.
    std::int64_t first_needed(const ModelNode& node, std::int64_t rows, std::int64_t results, bool is_whole) const;
    /// Rows of what a node reads: of the value of its source that has fewest.
    std::int64_t source_rows(const ModelNode& node, const std::int64_t* rows) const;
    /// Rows in after which every node has had results and their numbers repeat every period().
    std::int64_t startup() const { return startup_; }
    std::int64_t period() const { return period_; }
    /// Rows of each output of a stream that come of `rows` rows more after so many, or with none of their end. `room`
    /// is for num_counting() numbers.
    void count_outputs(std::int64_t before, std::int64_t rows, bool is_end, std::int64_t* room,
                       std::int64_t* counts) const;
    std::size_t num_counting() const { return 2 * num_values() + nodes_.size(); }
    /// Whether every hop after so many rows is answered by hop_out() rows of each output.
    bool is_steady(std::int64_t rows) const { return rows >= startup_ && hop_in_ == period_; }

private:
    void find_rates();
    void find_hop();
    std::vector<std::int64_t> rows_of_outputs(const std::int64_t* rows) const;
    bool rows_meet(const std::int64_t* rows) const;
    void check_rows_meet(const std::int64_t* rows, std::int64_t rows_in) const;

    std::vector<ModelInput> inputs_;
    std::vector<ModelNode> nodes_;
    std::vector<ModelOutput> outputs_;
    const KernelTable* kernels_;
    std::string no_streams_;
    std::vector<char> pooled_;    // by value, 0 or 1
    std::int64_t period_ = 1;
    std::int64_t startup_ = 1;
    std::int64_t hop_in_ = 1;
    std::int64_t hop_out_ = 1;
    std::int64_t delay_ = 0;
    double row_operations_ = 0;
};

}    // namespace fusedcell
