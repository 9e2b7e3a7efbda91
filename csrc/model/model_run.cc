#include "model/model_run.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/simd/float_mode.h"
#include "pack/sizes.h"

namespace fusedcell {
namespace {

// Windows that an operation gets at a time: enough that reading its weights once for all of them costs little. Those
// that are gathered lie in so much memory, so that they are still in cache.
constexpr std::ptrdiff_t kMostWindows = 128;
constexpr std::ptrdiff_t kGatheredFloats = std::ptrdiff_t{1} << 15;

std::ptrdiff_t windows_at_once(const ModelNode& node) {
    return std::clamp<std::ptrdiff_t>(kGatheredFloats / node.operation->window_size(), 1, kMostWindows);
}

// Whether each window of a node lies in one piece.
bool is_direct(const Network& model, const ModelNode& node) {
    if (node.source.size() > 1) return false;
    const Part& part = node.source.front();
    return node.window.taps == 1 || (node.window.dilation == 1 && part.size == model.value_size(part.value));
}

std::ptrdiff_t distance(const float* from, const float* to) {
    const auto bytes = reinterpret_cast<std::intptr_t>(to) - reinterpret_cast<std::intptr_t>(from);
    return bytes / static_cast<std::ptrdiff_t>(sizeof(float));
}

}    // namespace

void ModelRun::reserve(const Network& model, const ModelPlan& plan, std::ptrdiff_t sequences,
                       ModelWorkspace& workspace) {
    grow(workspace.rows, kMostWindows);
    if (workspace.layers.size() < model.nodes().size()) workspace.layers.resize(model.nodes().size());
    workspace.with_rows.reserve(count_of<Sequence>(sequences));
    workspace.lengths.reserve(count_of<std::int64_t>(sequences));
    workspace.states.reserve(count_of<RowState>(sequences));
    for (std::size_t i = 0; i < model.nodes().size(); ++i) {
        const ModelNode& node = model.nodes()[i];
        if (node.operation) {
            const bool direct = is_direct(model, node);
            node.operation->reserve(direct ? kMostWindows : windows_at_once(node), workspace.operations);
            if (!direct) grow(workspace.gathered, windows_at_once(node), node.operation->window_size());
        } else if (node.layer) {
            const std::ptrdiff_t rows = to_size(plan.values[model.inputs().size() + i].most_new);
            node.layer->reserve(rows, sequences, workspace.layers[i]);
            if (plan.is_whole || (sequences == 1 && is_direct(model, node))) continue;
            grow(workspace.layer_x, rows, sequences, node.input_size());
            grow(workspace.layer_y, rows, sequences, node.output_size);
        }
    }
}

std::int64_t ModelRun::new_results(std::size_t index, const SequenceCounts& counts, bool has_ended) const {
    const ModelNode& node = model_.nodes()[index];
    const std::int64_t rows = model_.source_rows(node, counts.rows);
    return model_.results_of(node, rows, has_ended, plan_.is_whole) - counts.results[index];
}

float* ModelRun::row(const Sequence& sequence, const SequenceCounts& counts, std::size_t value,
                     std::int64_t index) const {
    const auto place = static_cast<std::ptrdiff_t>(index - counts.front[value]);
    return sequence.floats + plan_.values[value].offset + place * model_.value_size(value);
}

float* ModelRun::add_rows(const Sequence& sequence, const SequenceCounts& counts, std::size_t value,
                          std::int64_t rows) {
    const ModelPlan::Value& plan = plan_.values[value];
    std::int64_t& front = counts.front[value];
    if (counts.rows[value] - front + rows + plan.after > plan.capacity) {
        const std::int64_t first = plan_.first_needed(model_, value, counts.rows, counts.results);
        const std::size_t floats = count_of<float>(to_size(counts.rows[value] - first), model_.value_size(value));
        std::memmove(row(sequence, counts, value, front), row(sequence, counts, value, first), floats * sizeof(float));
        front = first;
    }
    float* const added = row(sequence, counts, value, counts.rows[value]);
    counts.rows[value] += rows;
    return added;
}

void ModelRun::give(const ModelRows<const float>* inputs, std::ptrdiff_t first, std::ptrdiff_t rows,
                    const std::int64_t* lengths) {
    for (std::ptrdiff_t b = 0; b < num_sequences_; ++b) {
        const SequenceCounts counts(model_, sequences_[b].counts);
        const std::ptrdiff_t left = lengths == nullptr ? rows : static_cast<std::ptrdiff_t>(lengths[b]) - first;
        const std::ptrdiff_t given = std::clamp<std::ptrdiff_t>(left, 0, rows);
        for (std::size_t i = 0; i < model_.inputs().size(); ++i) {
            const std::ptrdiff_t size = model_.inputs()[i].size;
            float* added = add_rows(sequences_[b], counts, i, given);
            const float* from = inputs[i].data + first * inputs[i].step_stride + b * inputs[i].row_stride;
            for (std::ptrdiff_t t = 0; t < given; ++t, added += size, from += inputs[i].step_stride) {
                std::memcpy(added, from, static_cast<std::size_t>(size) * sizeof(float));
            }
        }
    }
}

void ModelRun::end_value(std::size_t value) {
    if (plan_.values[value].after == 0) return;
    for (std::ptrdiff_t b = 0; b < num_sequences_; ++b) {
        const SequenceCounts counts(model_, sequences_[b].counts);
        float* const end = add_rows(sequences_[b], counts, value, 0);
        std::fill_n(end, plan_.values[value].after * model_.value_size(value), 0.0F);
    }
}

bool ModelRun::advance(bool has_ended) {
    const ScopedFloatMode mode;
    const std::size_t num_inputs = model_.inputs().size();
    for (std::size_t i = 0; has_ended && i < num_inputs; ++i) end_value(i);
    for (std::size_t i = 0; i < model_.nodes().size(); ++i) {
        switch (model_.nodes()[i].kind) {
            case ModelNode::Kind::kWindow: run_windows(i, has_ended); break;
            case ModelNode::Kind::kLayer: run_layer(i, has_ended); break;
            case ModelNode::Kind::kLast: run_last(i, has_ended); break;
            case ModelNode::Kind::kPool: run_pool(i, has_ended); break;
        }
        if (checkpoint_ != nullptr && checkpoint_->stopped()) return false;
        if (has_ended) end_value(num_inputs + i);
    }
    return true;
}

float* ModelRun::copy_row(const ModelNode& node, const Sequence& sequence, const SequenceCounts& counts,
                          std::int64_t index, float* room) const {
    for (const Part& part : node.source) {
        const float* from = row(sequence, counts, part.value, index) + part.first;
        std::memcpy(room, from, static_cast<std::size_t>(part.size) * sizeof(float));
        room += part.size;
    }
    return room;
}

const float* ModelRun::window(const ModelNode& node, const Sequence& sequence, const SequenceCounts& counts,
                              std::int64_t index, float* room) const {
    const std::int64_t first = node.window.first_row(index);
    if (room == nullptr) {
        const Part& part = node.source.front();
        return row(sequence, counts, part.value, first) + part.first;
    }
    float* to = room;
    for (std::int64_t tap = 0; tap < node.window.taps; ++tap) {
        to = copy_row(node, sequence, counts, first + tap * node.window.dilation, to);
    }
    return room;
}

void ModelRun::run_windows(std::size_t index, bool has_ended) {
    const ModelNode& node = model_.nodes()[index];
    const Operation& operation = *node.operation;
    const bool direct = is_direct(model_, node);
    const std::ptrdiff_t most = direct ? kMostWindows : windows_at_once(node);
    LinearRow* const rows = workspace_.rows.data();
    std::ptrdiff_t waiting = 0;
    for (std::ptrdiff_t b = 0; b < num_sequences_; ++b) {
        const Sequence& sequence = sequences_[b];
        const SequenceCounts counts(model_, sequence.counts);
        const std::int64_t added = new_results(index, counts, has_ended);
        if (added == 0) continue;
        float* y = add_rows(sequence, counts, model_.inputs().size() + index, added * node.window.repeat);
        for (std::int64_t i = 0; i < added; ++i, y += operation.output_size()) {
            float* const room = direct ? nullptr : workspace_.gathered.data() + waiting * operation.window_size();
            rows[waiting] = {window(node, sequence, counts, counts.results[index] + i, room), y};
            if (++waiting < most) continue;
            operation.run(rows, waiting, workspace_.operations);
            waiting = 0;
        }
        counts.results[index] += added;
    }
    if (waiting > 0) operation.run(rows, waiting, workspace_.operations);
}

void ModelRun::run_layer(std::size_t index, bool has_ended) {
    const ModelNode& node = model_.nodes()[index];
    const NodeShape& shape = node.layer->shape();
    std::vector<Sequence>& sequences = workspace_.with_rows;
    std::vector<std::int64_t>& lengths = workspace_.lengths;
    std::vector<RowState>& states = workspace_.states;
    sequences.clear();
    lengths.clear();
    states.clear();
    for (std::ptrdiff_t b = 0; b < num_sequences_; ++b) {
        const std::int64_t added = new_results(index, SequenceCounts(model_, sequences_[b].counts), has_ended);
        if (added == 0) continue;
        float* const floats = sequences_[b].floats;
        const ModelPlan::State& at = plan_.states[index];
        sequences.push_back(sequences_[b]);
        lengths.push_back(added);
        states.push_back({floats + at.h, shape.c_size > 0 ? floats + at.c : nullptr, 1});
    }
    if (sequences.empty()) return;
    const auto [fewest, most] = std::minmax_element(lengths.begin(), lengths.end());
    LayerRows rows{to_size(*most), to_size(static_cast<std::int64_t>(sequences.size())), *fewest == *most};

    // Where x and y of the sequences lie as far from each other everywhere, the layer reads and writes them in place.
    const Part& part = node.source.front();
    rows.x = {nullptr, model_.value_size(part.value), 0};
    rows.y = {nullptr, node.output_size, 0};
    bool in_place = rows.are_equal && node.source.size() == 1 && !node.needs_end();
    for (std::ptrdiff_t b = 0; b < rows.batch; ++b) {
        const Sequence& sequence = sequences[static_cast<std::size_t>(b)];
        const SequenceCounts counts(model_, sequence.counts);
        const float* const x = row(sequence, counts, part.value, counts.results[index]) + part.first;
        float* const y =
            add_rows(sequence, counts, model_.inputs().size() + index, lengths[static_cast<std::size_t>(b)]);
        if (b == 0) rows.x.data = x, rows.y.data = y;
        if (b == 1) rows.x.row_stride = distance(rows.x.data, x), rows.y.row_stride = distance(rows.y.data, y);
        in_place = in_place && distance(rows.x.data, x) == b * rows.x.row_stride &&
                   distance(rows.y.data, y) == b * rows.y.row_stride;
    }
    if (!in_place) {
        run_layer_on_copies(index, rows);
    } else if (rows.steps == 1 && rows.batch == 1 && num_threads_ == 1) {
        node.layer->step(rows.x.data, rows.y.data, states.front().h, states.front().c, workspace_.layers[index]);
    } else {
        NodeRun run{rows.steps, rows.batch, rows.x, rows.y, {nullptr, nullptr, nullptr, states.data()}, nullptr};
        if (num_threads_ == 1) run.checkpoint = checkpoint_;
        node.layer->run(run, workspace_.layers[index], num_threads_);
    }
    for (std::size_t b = 0; b < sequences.size(); ++b) {
        SequenceCounts(model_, sequences[b].counts).results[index] += lengths[b];
    }
}

void ModelRun::run_layer_on_copies(std::size_t index, const LayerRows& rows) {
    const ModelNode& node = model_.nodes()[index];
    const NodeShape& shape = node.layer->shape();
    const std::size_t value = model_.inputs().size() + index;
    const std::ptrdiff_t inputs = shape.input_size;
    const std::ptrdiff_t outputs = shape.output_size;
    ModelWorkspace& space = workspace_;
    grow(space.layer_x, rows.steps, rows.batch, inputs);
    grow(space.layer_y, rows.steps, rows.batch, outputs);
    const auto for_each_row = [&](const auto& function) {
        for (std::ptrdiff_t b = 0; b < rows.batch; ++b) {
            const auto place = static_cast<std::size_t>(b);
            const SequenceCounts counts(model_, space.with_rows[place].counts);
            for (std::int64_t t = 0; t < space.lengths[place]; ++t) {
                const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(t) * rows.batch + b;
                function(space.with_rows[place], counts, t, space.layer_x.data() + at * inputs,
                         space.layer_y.data() + at * outputs);
            }
        }
    };
    for_each_row([&](const Sequence& sequence, const SequenceCounts& counts, std::int64_t t, float* x, float*) {
        copy_row(node, sequence, counts, counts.results[index] + t, x);
    });
    NodeRun run{rows.steps,
                rows.batch,
                sequence_view<const float>(space.layer_x.data(), rows.steps, rows.batch, inputs, false),
                sequence_view(space.layer_y.data(), rows.steps, rows.batch, outputs, false),
                {nullptr, nullptr, nullptr, space.states.data()},
                rows.are_equal ? nullptr : space.lengths.data()};
    if (node.needs_end()) {    // states of two directions lie beside each other, and nobody asks for the last ones
        const auto gather = [&](std::vector<float>& all, float* RowState::* state, std::ptrdiff_t size) {
            grow(all, shape.state_layers, rows.batch, size);
            for (std::ptrdiff_t i = 0; i < shape.state_layers * rows.batch; ++i) {
                const float* from = space.states[static_cast<std::size_t>(i % rows.batch)].*state;
                std::copy_n(from + i / rows.batch * size, size, all.data() + i * size);
            }
            return all.data();
        };
        float* const h = gather(space.layer_h, &RowState::h, shape.h_size);
        run.states = {h, h, shape.c_size > 0 ? gather(space.layer_c, &RowState::c, shape.c_size) : nullptr};
    }
    if (num_threads_ == 1 || node.needs_end()) run.checkpoint = checkpoint_;
    node.layer->run(run, space.layers[index], num_threads_);
    for_each_row([&](const Sequence& sequence, const SequenceCounts& counts, std::int64_t t, float*, const float* y) {
        std::copy_n(y, outputs, row(sequence, counts, value, counts.results[index] + t));
    });
}

// Of a stream each row is the last so far.
void ModelRun::run_last(std::size_t index, bool has_ended) {
    const ModelNode& node = model_.nodes()[index];
    for (std::ptrdiff_t b = 0; b < num_sequences_; ++b) {
        const SequenceCounts counts(model_, sequences_[b].counts);
        const std::int64_t added = new_results(index, counts, has_ended);
        if (added == 0) continue;
        float* y = add_rows(sequences_[b], counts, model_.inputs().size() + index, added);
        const std::int64_t end = model_.source_rows(node, counts.rows);
        for (std::int64_t t = end - added; t < end; ++t) y = copy_row(node, sequences_[b], counts, t, y);
        if (node.reversed_from > 0) {
            std::vector<float> first(static_cast<std::size_t>(node.output_size));
            copy_row(node, sequences_[b], counts, 0, first.data());
            std::copy(first.begin() + node.reversed_from, first.end(), y - node.output_size + node.reversed_from);
        }
        counts.results[index] += added;
    }
}

void ModelRun::run_pool(std::size_t index, bool has_ended) {
    const ModelNode& node = model_.nodes()[index];
    for (std::ptrdiff_t b = 0; b < num_sequences_; ++b) {
        const SequenceCounts counts(model_, sequences_[b].counts);
        if (new_results(index, counts, has_ended) == 0) continue;
        const std::int64_t rows = model_.source_rows(node, counts.rows);
        grow(workspace_.gathered, to_size(rows), node.output_size);
        float* x = workspace_.gathered.data();
        for (std::int64_t t = 0; t < rows; ++t) x = copy_row(node, sequences_[b], counts, t, x);
        float* const y = add_rows(sequences_[b], counts, model_.inputs().size() + index, 1);
        node.pool(workspace_.gathered.data(), y, {to_size(rows), node.output_size}, {nullptr, nullptr, 0.0F});
        counts.results[index] = 1;
    }
}

void ModelRun::take(const ModelRows<float>* outputs, std::int64_t* counts, bool is_whole, std::int64_t least) {
    for (std::size_t o = 0; o < model_.outputs().size(); ++o) {
        const std::size_t value = model_.outputs()[o].value;
        const std::ptrdiff_t size = model_.value_size(value);
        std::int64_t most = least;
        for (std::ptrdiff_t b = 0; b < num_sequences_; ++b) {
            const SequenceCounts sequence(model_, sequences_[b].counts);
            most = std::max(most, sequence.rows[value] - sequence.taken[o]);
        }
        if (counts != nullptr) counts[o] = most;
        for (std::ptrdiff_t b = 0; b < num_sequences_; ++b) {
            const SequenceCounts sequence(model_, sequences_[b].counts);
            const std::int64_t end = sequence.rows[value];
            std::int64_t& taken = sequence.taken[o];
            float* y = outputs[o].data + b * outputs[o].row_stride;
            if (is_whole) y += static_cast<std::ptrdiff_t>(taken) * outputs[o].step_stride;
            for (std::int64_t lacking = is_whole ? 0 : most - (end - taken); lacking > 0; --lacking) {
                std::fill_n(y, size, std::numeric_limits<float>::quiet_NaN());
                y += outputs[o].step_stride;
            }
            for (; taken < end; ++taken, y += outputs[o].step_stride) {
                const float* from = row(sequences_[b], sequence, value, taken);
                std::memcpy(y, from, static_cast<std::size_t>(size) * sizeof(float));
            }
        }
    }
}

}    // namespace fusedcell
