#include "model/model_plan.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "pack/sizes.h"

namespace fusedcell {
namespace {

// A small file can ask for the product of a long delay and many features.
constexpr std::ptrdiff_t kMostFloats = std::ptrdiff_t{1} << 28;

}    // namespace

ModelPlan::ModelPlan(const Network& model, std::int64_t block, bool whole)
    : values(model.num_values()),
      states(model.nodes().size()),
      num_counts(2 * model.num_values() + model.nodes().size() + model.outputs().size()),
      is_whole(whole) {
    for (std::size_t i = 0; i < states.size(); ++i) {
        const ModelNode& node = model.nodes()[i];
        for (const Part& part : node.source) {
            Value& value = values[part.value];
            if (value.readers.empty() || value.readers.back() != i) value.readers.push_back(i);
            value.before = std::max(value.before, node.window.left);
            value.after = std::max(value.after, node.window.right);
        }
    }
    std::vector<std::int64_t> rows(model.num_values());
    std::vector<std::int64_t> next(model.num_values());
    std::vector<std::int64_t> results(states.size());
    std::vector<std::int64_t> next_results(states.size());
    const auto consider = [&](const Network::Progress& from, const Network::Progress& to) {
        model.count(from, rows.data(), results.data());
        model.count(to, next.data(), next_results.data());
        for (std::size_t v = 0; v < values.size(); ++v) {
            Value& value = values[v];
            const std::int64_t added = next[v] - rows[v];
            const std::int64_t kept = rows[v] - first_needed(model, v, rows.data(), results.data());
            value.most_new = std::max(value.most_new, added);
            value.capacity = std::max(value.capacity, kept + added + value.after);
        }
    };
    // Where an answer waits for the end, all rows come at once, of which shorter sequences have fewer.
    const bool is_at_once = is_whole && !model.why_no_streams().empty();
    if (is_at_once) {
        consider({0, false, true}, {block, true, true});
    } else {
        for (std::int64_t before = 0; before <= model.startup() + model.period(); ++before) {
            consider({before, false, is_whole}, {before + block, false, is_whole});
            consider({before, false, is_whole}, {before, true, is_whole});
        }
    }
    for (std::size_t v = 0; v < values.size(); ++v) {
        Value& value = values[v];
        // Twice what is kept, so that a row moves no more often than it is computed.
        if (!is_at_once) value.capacity += value.capacity - value.most_new;
        value.capacity = std::max(value.capacity, value.before + value.most_new + value.after);
        value.offset = floats;
        floats = sum_of(floats, product_of(to_size(value.capacity), model.value_size(v)));
    }
    if (!is_at_once && floats > kMostFloats) {
        throw std::invalid_argument("the rows of a sequence that wait for others are " + std::to_string(floats) +
                                    " floats together; at most 2^28 can");
    }
    state_offset = floats;
    for (std::size_t i = 0; i < states.size(); ++i) {
        const ModelNode& node = model.nodes()[i];
        if (!node.layer) continue;
        const NodeShape& shape = node.layer->shape();
        states[i].h = floats;
        states[i].c = sum_of(floats, product_of(shape.state_layers, shape.h_size));
        floats = sum_of(states[i].c, product_of(shape.state_layers, shape.c_size));
    }
}

std::int64_t ModelPlan::first_needed(const Network& model, std::size_t value, const std::int64_t* rows,
                                     const std::int64_t* results) const {
    std::int64_t first = rows[value];
    for (const std::size_t i : values[value].readers) {
        const ModelNode& node = model.nodes()[i];
        first = std::min(first, model.first_needed(node, model.source_rows(node, rows), results[i], is_whole));
    }
    return std::max(first, -values[value].before);
}

}    // namespace fusedcell
