#include "model/model_stream.h"

#include <algorithm>
#include <utility>

#include "model/model_run.h"
#include "pack/sizes.h"

namespace fusedcell {

std::size_t ModelWorkspace::nbytes() const {
    std::size_t total = operations.nbytes() + bytes_of(rows, gathered, layer_x, layer_y, layer_h, layer_c, states,
                                                       lengths, sequences, with_rows, layers);
    for (const Workspace& layer : layers) total += layer.nbytes();
    return total;
}

NetworkStream::NetworkStream(std::shared_ptr<const Network> model, std::ptrdiff_t batch, std::ptrdiff_t block,
                             bool is_whole)
    : model_(std::move(model)),
      batch_(batch),
      block_(block),
      plan_(std::make_shared<const ModelPlan>(*model_, block, is_whole)),
      floats_(count_of<float>(batch, plan_->floats)),
      counts_(count_of<std::int64_t>(batch, num_counts())) {
    prepare();
    reset();
}

NetworkStream::NetworkStream(const NetworkStream& other)
    : model_(other.model_),
      batch_(other.batch_),
      block_(other.block_),
      has_ended_(other.has_ended_),
      plan_(other.plan_),
      floats_(other.floats_),
      counts_(other.counts_) {
    prepare();
}

void NetworkStream::prepare() {
    counting_.resize(2 * model_->outputs().size() + model_->num_counting());
    ModelRun::reserve(*model_, *plan_, batch_, workspace_);
    for (std::ptrdiff_t row = 0; row < batch_; ++row) workspace_.sequences.push_back(sequence(row));
}

void NetworkStream::process(const ModelRows<const float>* inputs, std::ptrdiff_t rows, const ModelRows<float>* outputs,
                            std::int64_t* counts, int num_threads) {
    ModelRun run(*model_, *plan_, workspace_.sequences.data(), batch_, workspace_, num_threads);
    run.give(inputs, 0, rows);
    if (rows > 0) run.advance(false);
    run.take(outputs, counts);
}

void NetworkStream::flush(const ModelRows<float>* outputs, std::int64_t* counts, int num_threads) {
    ModelRun run(*model_, *plan_, workspace_.sequences.data(), batch_, workspace_, num_threads);
    has_ended_ = true;
    run.advance(true);
    run.take(outputs, counts);
}

void NetworkStream::count(std::ptrdiff_t rows, bool is_end, std::int64_t* counts) {
    const std::size_t outputs = model_->outputs().size();
    bool is_steady = !is_end && rows == model_->hop_in();
    for (std::ptrdiff_t b = 0; b < batch_; ++b) is_steady = is_steady && model_->is_steady(rows_in(b));
    std::fill_n(counts, outputs, is_steady ? model_->hop_out() : 0);
    if (is_steady) return;
    std::int64_t* const own = counting_.data();
    std::int64_t* const most = own + outputs;
    for (std::ptrdiff_t first = 0; first < rows || (is_end && first == 0); first += block_) {
        std::fill_n(most, outputs, std::int64_t{0});
        for (std::ptrdiff_t b = 0; b < batch_; ++b) {
            if (b > 0 && rows_in(b) == rows_in(b - 1)) continue;
            model_->count_outputs(rows_in(b) + first, std::min(block_, rows - first), is_end, most + outputs, own);
            for (std::size_t o = 0; o < outputs; ++o) most[o] = std::max(most[o], own[o]);
        }
        for (std::size_t o = 0; o < outputs; ++o) counts[o] += most[o];
    }
}

void NetworkStream::step_many(const std::vector<StreamRow>& rows, const ModelRows<const float>* inputs,
                              const ModelRows<float>* outputs, std::int64_t* counts, ModelWorkspace& workspace,
                              std::int64_t least) {
    const NetworkStream& any = *rows.front().stream;
    const auto num_sequences = static_cast<std::ptrdiff_t>(rows.size());
    ModelRun::reserve(*any.model_, *any.plan_, num_sequences, workspace);
    workspace.sequences.clear();
    for (const StreamRow& row : rows) workspace.sequences.push_back(row.stream->sequence(row.row));
    ModelRun run(*any.model_, *any.plan_, workspace.sequences.data(), num_sequences, workspace);
    run.give(inputs, 0, static_cast<std::ptrdiff_t>(any.model_->hop_in()));
    run.advance(false);
    run.take(outputs, counts, false, least);
}

void NetworkStream::reset() {
    for (std::ptrdiff_t row = 0; row < batch_; ++row) reset_row(row);
    has_ended_ = false;
}

void NetworkStream::reset_row(std::ptrdiff_t row) {
    const Sequence own = sequence(row);
    std::fill_n(own.counts, num_counts(), std::int64_t{0});
    const SequenceCounts counts(*model_, own.counts);
    for (std::size_t v = 0; v < plan_->values.size(); ++v) {
        const ModelPlan::Value& value = plan_->values[v];
        counts.front[v] = -value.before;
        std::fill_n(own.floats + value.offset, value.before * model_->value_size(v), 0.0F);
    }
    for (std::size_t i = 0; i < plan_->states.size(); ++i) {
        const ModelNode& node = model_->nodes()[i];
        if (!node.layer) continue;
        const NodeShape& shape = node.layer->shape();
        const auto start = [&](std::ptrdiff_t at, std::ptrdiff_t size, const std::vector<float>& initial) {
            std::fill_n(own.floats + at, shape.state_layers * size, 0.0F);
            std::copy(initial.begin(), initial.end(), own.floats + at);
        };
        start(plan_->states[i].h, shape.h_size, node.initial_h);
        start(plan_->states[i].c, shape.c_size, node.initial_c);
    }
}

void NetworkStream::reorder(const std::vector<std::ptrdiff_t>& rows) {
    const std::vector<float> floats = floats_;    // all that can fail comes before anything changes
    const std::vector<std::int64_t> counts = counts_;
    const auto move = [&](const auto& before, auto& values, std::ptrdiff_t size) {
        auto to = values.begin();
        for (const std::ptrdiff_t row : rows) to = std::copy_n(before.begin() + row * size, size, to);
    };
    move(floats, floats_, plan_->floats);
    move(counts, counts_, num_counts());
}

std::int64_t NetworkStream::rows_in(std::ptrdiff_t row) const {
    return counts_[static_cast<std::size_t>(row * num_counts()) + model_->num_values()];
}

// Calls function(floats, size) with each piece of a sequence's state: of each value the rows that are still needed, in
// front of which there may be zeros, and what layers have.
template <class Function>
void NetworkStream::for_each_state(const Sequence& sequence, const Function& function) const {
    const SequenceCounts counts(*model_, sequence.counts);
    for (std::size_t v = 0; v < plan_->values.size(); ++v) {
        const std::int64_t needed = plan_->first_needed(*model_, v, counts.rows, counts.results);
        const std::int64_t first = std::max<std::int64_t>(needed, 0);
        const auto kept = static_cast<std::ptrdiff_t>(counts.rows[v] - first);
        const std::ptrdiff_t size = model_->value_size(v);
        float* const rows = sequence.floats + plan_->values[v].offset;
        function(rows + (first - counts.front[v]) * size, kept * size);
    }
    const std::ptrdiff_t layers = plan_->state_offset;
    function(sequence.floats + layers, plan_->floats - layers);
}

std::size_t NetworkStream::state_floats(std::int64_t rows_in) const {
    std::vector<std::int64_t> rows(model_->num_values());
    std::vector<std::int64_t> results(model_->nodes().size());
    model_->count({rows_in, false, false}, rows.data(), results.data());
    std::int64_t total = plan_->floats - plan_->state_offset;
    for (std::size_t v = 0; v < rows.size(); ++v) {
        const std::int64_t first = plan_->first_needed(*model_, v, rows.data(), results.data());
        total += (rows[v] - std::max<std::int64_t>(first, 0)) * model_->value_size(v);
    }
    return static_cast<std::size_t>(total);
}

void NetworkStream::get_state(std::ptrdiff_t row, float* state) {
    for_each_state(sequence(row),
                   [&](const float* floats, std::ptrdiff_t size) { state = std::copy_n(floats, size, state); });
}

void NetworkStream::set_state(std::ptrdiff_t row, std::int64_t rows_in, const float* state) {
    reset_row(row);
    const Sequence own = sequence(row);
    const SequenceCounts counts(*model_, own.counts);
    model_->count({rows_in, false, false}, counts.rows, counts.results);
    for (std::size_t o = 0; o < model_->outputs().size(); ++o) {
        counts.taken[o] = counts.rows[model_->outputs()[o].value];
    }
    for (std::size_t v = 0; v < plan_->values.size(); ++v) {
        const ModelPlan::Value& value = plan_->values[v];
        counts.front[v] = plan_->first_needed(*model_, v, counts.rows, counts.results);
        const std::int64_t zeros = std::max<std::int64_t>(-counts.front[v], 0);
        std::fill_n(own.floats + value.offset, zeros * model_->value_size(v), 0.0F);
    }
    for_each_state(own, [&](float* floats, std::ptrdiff_t size) {
        std::copy_n(state, size, floats);
        state += size;
    });
}

std::size_t NetworkStream::nbytes() const { return bytes_of(floats_, counts_, counting_) + workspace_.nbytes(); }

bool NetworkStream::run_whole(const std::shared_ptr<const Network>& model, const ModelRows<const float>* inputs,
                              std::ptrdiff_t rows, std::ptrdiff_t batch, const std::int64_t* lengths,
                              const ModelRows<float>* outputs, int num_threads, Checkpoint* checkpoint) {
    // So many rows of all sequences that reading the weights once for them costs little.
    constexpr std::ptrdiff_t kRowsAtOnce = 256;
    std::ptrdiff_t block = std::max<std::ptrdiff_t>(rows, 1);
    if (model->why_no_streams().empty()) {
        const auto hop = static_cast<std::ptrdiff_t>(model->hop_in());
        block = std::min(block, std::max<std::ptrdiff_t>(kRowsAtOnce / batch / hop, 1) * hop);
    }
    NetworkStream stream(model, batch, block, true);
    // What a shorter sequence lacks, and the answer of all rows where there are none.
    const std::vector<std::int64_t> rows_out = model->rows_out(rows);
    for (std::size_t o = 0; o < rows_out.size(); ++o) {
        if (lengths == nullptr && !model->is_pooled(o)) continue;
        for (std::int64_t i = 0; i < rows_out[o] * batch; ++i) {
            const auto t = static_cast<std::ptrdiff_t>(i / batch);
            float* y = outputs[o].data + t * outputs[o].step_stride + i % batch * outputs[o].row_stride;
            std::fill_n(y, model->output_size(o), 0.0F);
        }
    }
    ModelRun run(*model, *stream.plan_, stream.workspace_.sequences.data(), batch, stream.workspace_, num_threads,
                 checkpoint);
    for (std::ptrdiff_t first = 0; first < rows; first += block) {
        const std::ptrdiff_t count = std::min(block, rows - first);
        run.give(inputs, first, count, lengths);
        if (!run.advance(false)) return false;
        run.take(outputs, nullptr, true);
        if (checkpoint == nullptr) continue;
        checkpoint->pass(model->row_operations() * static_cast<double>(count * batch));
        if (checkpoint->stopped()) return false;
    }
    if (!run.advance(true)) return false;
    run.take(outputs, nullptr, true);
    return true;
}

}    // namespace fusedcell
