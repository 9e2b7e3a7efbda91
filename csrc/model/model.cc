#include "model/model.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "model/message.h"

namespace fusedcell {
namespace {

// Rows of a value for rows of the inputs, in the long run.
struct Rate {
    std::int64_t out = 1;
    std::int64_t in = 1;

    bool operator==(const Rate& other) const { return out == other.out && in == other.in; }
};

// Node by node and row by row, so many steps of counting find what a model needs. Files could ask for any number.
constexpr std::int64_t kMostCounts = std::int64_t{1} << 24;

[[noreturn]] void refuse(const ModelNode& node, Message parts) {
    throw std::invalid_argument(joined({node.name, ": ", joined(parts)}));
}

Rate reduced(const ModelNode& node, std::int64_t out, std::int64_t in) {
    const std::int64_t common = std::gcd(out, in);
    if (std::max(out, in) / common <= Network::kMostRows) return {out / common, in / common};
    refuse(node, {"strides and repeats up to here are more than 2^20 together"});
}

std::string rows_text(std::int64_t rows) { return std::to_string(rows) + (rows == 1 ? " row" : " rows"); }

}    // namespace

std::ptrdiff_t ModelNode::input_size() const {
    return std::accumulate(source.begin(), source.end(), std::ptrdiff_t{0},
                           [](std::ptrdiff_t sum, const Part& part) { return sum + part.size; });
}

bool ModelNode::needs_end() const {
    return kind == Kind::kPool || (kind == Kind::kLast && reversed_from > 0) ||
           (kind == Kind::kLayer && !layer->shape().has_streams);
}

Network::Network(std::vector<ModelInput> inputs, std::vector<ModelNode> nodes, std::vector<ModelOutput> outputs,
                 const KernelTable& kernels)
    : inputs_(std::move(inputs)), nodes_(std::move(nodes)), outputs_(std::move(outputs)), kernels_(&kernels) {
    for (const ModelNode& node : nodes_) {
        if (!node.needs_end() || !no_streams_.empty()) continue;
        no_streams_ =
            node.name +
            (node.kind == ModelNode::Kind::kLayer ? ": a bidirectional or reverse layer" : ": an answer of all rows") +
            " needs the whole sequence";
    }
    find_rates();
    find_hop();
}

void Network::find_rates() {
    pooled_.assign(num_values(), 0);
    std::vector<Rate> rates(num_values());
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        const ModelNode& node = nodes_[i];
        const std::size_t first = node.source.front().value;
        for (const Part& part : node.source) {
            if (pooled_[part.value] != pooled_[first]) {
                refuse(node, {"'", value_name(pooled_[first] ? first : part.value), "' has one row a sequence and '",
                              value_name(pooled_[first] ? part.value : first), "' one a step; they cannot meet"});
            }
            if (rates[part.value] == rates[first]) continue;
            refuse(node, {"'", value_name(first), "' has ", std::to_string(rates[first].out), " rows for ",
                          std::to_string(rates[first].in), " of the inputs and '", value_name(part.value), "' has ",
                          std::to_string(rates[part.value].out), " for ", std::to_string(rates[part.value].in),
                          "; they cannot meet"});
        }
        const bool is_window = node.kind == ModelNode::Kind::kWindow;
        const Window& window = node.window;
        const bool is_row_by_row = window.span() == 1 && window.stride == 1 && window.left == 0 && window.right == 0;
        if (pooled_[first] && !(is_window && is_row_by_row && window.repeat == 1)) {
            refuse(node, {"'", value_name(first), "' has one row a sequence, of which this makes nothing"});
        }
        const std::size_t value = inputs_.size() + i;
        const bool pools = node.kind == ModelNode::Kind::kLast || node.kind == ModelNode::Kind::kPool;
        pooled_[value] = pools ? 1 : pooled_[first];
        rates[value] = rates[first];
        if (is_window) {
            const Rate windows = reduced(node, rates[first].out, rates[first].in * window.stride);
            rates[value] = reduced(node, windows.out * window.repeat, windows.in);
            period_ = std::lcm(period_, windows.in);
        }
        if (period_ > kMostRows)
            refuse(node, {"strides up to here give the same phase again after over 2^20 rows only"});
        const double rate = static_cast<double>(rates[value].out) / static_cast<double>(rates[value].in);
        if (node.operation) row_operations_ += node.operation->operations() * rate / static_cast<double>(window.repeat);
        if (node.layer) row_operations_ += node.layer->step_operations() * rate;
    }
    const Rate& rate = rates[outputs_.front().value];
    for (const ModelOutput& output : outputs_) {
        if (rates[output.value] == rate || !no_streams_.empty()) continue;
        no_streams_ = output.name + ": its rows come at another rate than those of '" + outputs_.front().name + "'";
    }
}

// Counts what streams have; whole sequences of these nodes have as many windows of as many rows.
void Network::find_hop() {
    std::vector<std::int64_t> rows(num_values());
    std::vector<std::int64_t> results(nodes_.size());
    std::int64_t first_out = -1;
    std::int64_t rows_in = -1;
    const auto has_results = [](std::int64_t count) { return count > 0; };
    const auto is_answered = [&] {
        return std::all_of(outputs_.begin(), outputs_.end(), [&](const auto& o) { return rows[o.value] > 0; });
    };
    const std::int64_t most = std::min(4 * kMostRows, kMostCounts / static_cast<std::int64_t>(nodes_.size() + 1));
    // Bidirectional layers are counted as if they answered at once: when whole sequences' rows meet is the same.
    do {
        if (++rows_in > most) {
            const auto waiting = std::find(results.begin(), results.end(), 0) - results.begin();
            refuse(nodes_[static_cast<std::size_t>(waiting)],
                   {"has no result yet after ", std::to_string(most), " rows in, the most that may have to wait"});
        }
        count({rows_in, false, false}, rows.data(), results.data());
        if (first_out < 0 && is_answered()) first_out = rows_in;
    } while (!std::all_of(results.begin(), results.end(), has_results) || first_out < 0);
    startup_ = rows_in;
    if (startup_ + period_ > most)
        refuse(nodes_.back(), {"strides and padding up to here are too large for so many nodes"});
    const std::int64_t whole = (startup_ + period_ - 1) / period_ * period_ + period_;
    // Of some numbers of rows, as of whole frames, what comes together may have as many, and not of others.
    for (rows_in = whole; rows_in < whole + period_; ++rows_in) {
        count({rows_in, true, false}, rows.data(), results.data());
        if (rows_meet(rows.data())) break;
    }
    if (rows_in == whole + period_) rows_out(whole);    // which says where they do not

    if (!no_streams_.empty()) return;
    // The rows of all outputs after so many in.
    const auto answered = [&](std::int64_t rows_before) {
        count({rows_before, false, false}, rows.data(), results.data());
        return rows_of_outputs(rows.data());
    };
    const std::vector<std::int64_t> begin = answered(whole);
    const std::int64_t of_period = answered(whole + period_)[0] - begin[0];    // of each
    const auto is_hop = [&](std::int64_t hop) {
        if (period_ % hop != 0 || of_period % (period_ / hop) != 0) return false;
        for (std::int64_t i = 1; i < period_ / hop; ++i) {
            const std::vector<std::int64_t> out = answered(whole + i * hop);
            const std::int64_t added = of_period / (period_ / hop) * i;
            if (!std::equal(out.begin(), out.end(), begin.begin(), [&](auto a, auto o) { return a - o == added; })) {
                return false;
            }
        }
        return true;
    };
    while (!is_hop(hop_in_)) ++hop_in_;
    hop_out_ = of_period / (period_ / hop_in_);
    delay_ = first_out - hop_in_;
}

bool Network::rows_meet(const std::int64_t* rows) const {
    return std::all_of(nodes_.begin(), nodes_.end(), [&](const ModelNode& node) {
        return std::all_of(node.source.begin(), node.source.end(),
                           [&](const Part& part) { return rows[part.value] == source_rows(node, rows); });
    });
}

void Network::check_rows_meet(const std::int64_t* rows, std::int64_t rows_in) const {
    for (const ModelNode& node : nodes_) {
        const std::size_t first = node.source.front().value;
        for (const Part& part : node.source) {
            if (rows[part.value] == rows[first]) continue;
            refuse(node, {"of ", rows_text(rows_in), " in, '", value_name(first), "' has ", rows_text(rows[first]),
                          " and '", value_name(part.value), "' has ", std::to_string(rows[part.value]),
                          "; what comes together has as many"});
        }
    }
}

std::int64_t Network::results_of(const ModelNode& node, std::int64_t rows, bool has_ended, bool is_whole) const {
    switch (node.kind) {
        case ModelNode::Kind::kWindow: return node.window.windows(rows, has_ended);
        case ModelNode::Kind::kLayer: return is_whole && node.needs_end() && !has_ended ? 0 : rows;
        case ModelNode::Kind::kLast:
        case ModelNode::Kind::kPool:
            if (!is_whole) return rows;
            return has_ended && rows > 0 ? 1 : 0;
    }
    return 0;
}

std::int64_t Network::source_rows(const ModelNode& node, const std::int64_t* rows) const {
    std::int64_t fewest = rows[node.source.front().value];
    for (const Part& part : node.source) fewest = std::min(fewest, rows[part.value]);
    return fewest;
}

void Network::count(const Progress& progress, std::int64_t* rows, std::int64_t* results) const {
    if (progress.rows == 0 && !progress.has_ended) {    // though padding alone may be enough for some
        std::fill_n(rows, num_values(), std::int64_t{0});
        std::fill_n(results, nodes_.size(), std::int64_t{0});
        return;
    }
    std::fill_n(rows, inputs_.size(), progress.rows);
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        const ModelNode& node = nodes_[i];
        results[i] = results_of(node, source_rows(node, rows), progress.has_ended, progress.is_whole);
        rows[inputs_.size() + i] = results[i] * (node.kind == ModelNode::Kind::kWindow ? node.window.repeat : 1);
    }
}

std::int64_t Network::first_needed(const ModelNode& node, std::int64_t rows, std::int64_t results,
                                   bool is_whole) const {
    if (node.kind == ModelNode::Kind::kWindow) return node.window.first_row(results);
    if (is_whole && node.needs_end()) return 0;
    return is_whole && node.kind == ModelNode::Kind::kLast ? rows - 1 : results;
}

void Network::count_outputs(std::int64_t before, std::int64_t rows, bool is_end, std::int64_t* room,
                            std::int64_t* counts) const {
    std::int64_t* const had = room;
    std::int64_t* const has = had + num_values();
    std::int64_t* const results = has + num_values();
    count({before, false, false}, had, results);
    count({before + rows, is_end, false}, has, results);
    for (const ModelOutput& output : outputs_) *counts++ = has[output.value] - had[output.value];
}

std::vector<std::int64_t> Network::rows_out(std::int64_t rows_in) const {
    std::vector<std::int64_t> rows(num_values());
    std::vector<std::int64_t> results(nodes_.size());
    count({rows_in, true, true}, rows.data(), results.data());
    check_rows_meet(rows.data(), rows_in);
    std::vector<std::int64_t> out = rows_of_outputs(rows.data());
    for (std::size_t o = 0; o < out.size(); ++o) out[o] = is_pooled(o) ? 1 : out[o];
    return out;
}

std::vector<std::int64_t> Network::rows_of_outputs(const std::int64_t* rows) const {
    std::vector<std::int64_t> out(outputs_.size());
    std::transform(outputs_.begin(), outputs_.end(), out.begin(),
                   [&](const auto& output) { return rows[output.value]; });
    return out;
}

std::size_t Network::nbytes() const {
    std::size_t total = 0;
    for (const ModelNode& node : nodes_) {
        if (node.operation) total += node.operation->nbytes();
        if (node.layer) total += node.layer->nbytes();
    }
    return total;
}

}    // namespace fusedcell
