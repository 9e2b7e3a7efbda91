// Drawn models give, in any pieces and any company, the bits of their definition: each value computed whole, one node
// after another, for one sequence.
#include <algorithm>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/dispatch.h"
#include "kernels/simd/float_mode.h"
#include "model/model_stream.h"
#include "testing/random_stack.h"

namespace fusedcell::test {
namespace {

using Floats = std::vector<float>;
using Kind = ModelNode::Kind;

std::mt19937 generator(1);
int draw(int least, int most) {
    return least + static_cast<int>(generator() % static_cast<unsigned>(most - least + 1));
}
bool one_in(int n) { return draw(1, n) == 1; }
Floats draw_floats(std::size_t size) {
    Floats floats(size);
    for (float& value : floats) value = static_cast<float>(draw(-100, 100)) / 64.0F;
    return floats;
}

std::size_t size_of(std::ptrdiff_t size) { return static_cast<std::size_t>(size); }

struct Drawn {
    std::vector<ModelInput> inputs;
    std::vector<ModelNode> nodes;
    std::vector<ModelOutput> outputs;
    const KernelTable& kernels = *available_tiers()[size_of(draw(0, static_cast<int>(available_tiers().size()) - 1))];

    std::ptrdiff_t size(std::size_t value) const {
        return value < inputs.size() ? inputs[value].size : nodes[value - inputs.size()].output_size;
    }
    std::size_t num_values() const { return inputs.size() + nodes.size(); }
};

void draw_window(ModelNode& node, const KernelTable& kernels) {
    Window& window = node.window;
    window = {draw(1, 4), one_in(3) ? draw(1, 3) : 1, one_in(3) ? draw(1, 3) : 1, 0, 0, one_in(4) ? draw(1, 3) : 1};
    if (one_in(2)) window.left = window.span() - 1;
    if (one_in(3)) window.left = draw(-2, 5), window.right = draw(-2, 9);
    node.output_size = draw(1, 5);
    const auto outputs = node.output_size * static_cast<std::ptrdiff_t>(window.repeat);
    const auto taps = static_cast<std::ptrdiff_t>(window.taps);
    const Floats weight = draw_floats(size_of(outputs * taps * node.input_size()));
    const Floats bias = draw_floats(size_of(outputs));
    const WeightType type = one_in(4) ? WeightType::int8 : one_in(4) ? WeightType::int8_int16 : WeightType::float32;
    const Activation relu{ActivationKind::kRelu, 0, 0};
    node.operation = make_linear({{weight.data(), nullptr, type}, bias.data(), outputs, taps, node.input_size(), 1},
                                 one_in(2) ? &relu : nullptr, kernels);
}

void draw_layer(ModelNode& node, const KernelTable& kernels) {
    const CellKind kind = kKinds[draw(0, 4)];
    const Geometry geometry{kind, node.input_size(), draw(1, 9), 0, draw(1, 2), one_in(4) ? 2 : 1, one_in(6)};
    node.kind = Kind::kLayer;
    const auto stack = random_stack(geometry, kernels, WeightType::float32, one_in(4));
    node.layer = stack;
    node.output_size = stack->shape().output_size;
    if (one_in(2)) return;
    node.initial_h = draw_floats(size_of(stack->shape().state_layers * stack->shape().h_size));
    node.initial_c = draw_floats(size_of(stack->shape().state_layers * stack->shape().c_size));
}

Drawn draw_model() {
    Drawn model;
    model.inputs.push_back({"x", draw(1, 4)});
    if (one_in(3)) model.inputs.push_back({"z", draw(1, 2)});
    for (int i = draw(1, 5); i > 0; --i) {
        ModelNode node;
        node.name = "n" + std::to_string(i);
        const std::size_t last = model.num_values() - 1;
        for (int part = one_in(4) ? 2 : 1; part > 0; --part) {
            const std::size_t value = one_in(3) ? size_of(draw(0, static_cast<int>(last))) : last;
            const std::ptrdiff_t first = one_in(4) ? draw(0, static_cast<int>(model.size(value)) - 1) : 0;
            node.source.push_back({value, first, model.size(value) - first});
        }
        if (one_in(3)) {
            draw_layer(node, model.kernels);
        } else if (one_in(8)) {
            node.kind = Kind::kLast;
            node.output_size = node.input_size();
            if (one_in(2)) node.reversed_from = node.output_size / 2;
        } else {
            draw_window(node, model.kernels);
        }
        model.nodes.push_back(node);
    }
    model.outputs.push_back({"y", model.num_values() - 1});
    if (one_in(4)) model.outputs.push_back({"other", size_of(draw(0, static_cast<int>(model.num_values()) - 1))});
    return model;
}

Floats layer_of(const ModelNode& node, const Floats& x, std::ptrdiff_t rows) {
    const NodeShape& shape = node.layer->shape();
    Floats h = node.initial_h;
    Floats c = node.initial_c;
    h.resize(size_of(shape.state_layers * shape.h_size));
    c.resize(size_of(shape.state_layers * shape.c_size));
    Floats y(size_of(rows * shape.output_size));
    Workspace workspace;
    node.layer->run({rows,
                     1,
                     {x.data(), shape.input_size, 0},
                     {y.data(), shape.output_size, 0},
                     {h.data(), h.data(), c.empty() ? nullptr : c.data()},
                     nullptr},
                    workspace);
    return y;
}

// Every value of one sequence of `rows` rows, by the definition. Of a stream, the last row is each row in turn.
std::vector<Floats> values_of(const Drawn& model, std::vector<Floats> values, bool is_stream) {
    const ScopedFloatMode mode;
    for (const ModelNode& node : model.nodes) {
        std::ptrdiff_t rows = PTRDIFF_MAX;
        for (const Part& part : node.source) {
            const auto floats = static_cast<std::ptrdiff_t>(values[part.value].size());
            rows = std::min(rows, floats / model.size(part.value));
        }
        const auto append = [&](std::int64_t row, Floats& to) {
            for (const Part& part : node.source) {
                const auto at = static_cast<std::ptrdiff_t>(row) * model.size(part.value) + part.first;
                for (std::ptrdiff_t i = 0; i < part.size; ++i) {
                    to.push_back(row < 0 || row >= rows ? 0.0F : values[part.value][size_of(at + i)]);
                }
            }
        };
        Floats result;
        if (node.kind == Kind::kWindow) {
            OperationSpace space;
            node.operation->reserve(1, space);
            for (std::int64_t w = 0; w < node.window.windows(rows, true); ++w) {
                Floats window;
                for (std::int64_t tap = 0; tap < node.window.taps; ++tap) {
                    append(node.window.first_row(w) + tap * node.window.dilation, window);
                }
                Floats y(size_of(node.operation->output_size()));
                const LinearRow row{window.data(), y.data()};
                node.operation->run(&row, 1, space);
                result.insert(result.end(), y.begin(), y.end());
            }
        } else {
            Floats x;
            for (std::ptrdiff_t row = 0; row < rows; ++row) append(row, x);
            if (node.kind == Kind::kLayer) result = layer_of(node, x, rows);
            if (node.kind == Kind::kLast && rows > 0) {
                result.assign(is_stream ? x.begin() : x.end() - node.output_size, x.end());
                if (node.reversed_from > 0) {
                    std::copy_n(x.begin() + node.reversed_from, node.output_size - node.reversed_from,
                                result.begin() + node.reversed_from);
                }
            }
        }
        values.push_back(result);
    }
    return values;
}

// Sequences of a batch, (T, B, size) for each input.
class Batch {
public:
    Batch(const Drawn& model, std::ptrdiff_t rows, std::ptrdiff_t batch) : model_(model), rows_(rows), batch_(batch) {
        for (const ModelInput& input : model.inputs) data_.push_back(draw_floats(size_of(rows * batch * input.size)));
    }
    std::vector<ModelRows<const float>> from(std::ptrdiff_t row) const {
        std::vector<ModelRows<const float>> inputs;
        for (std::size_t i = 0; i < data_.size(); ++i) {
            const std::ptrdiff_t size = model_.inputs[i].size;
            inputs.push_back({data_[i].data() + row * batch_ * size, batch_ * size, size});
        }
        return inputs;
    }
    std::vector<Floats> sequence(std::ptrdiff_t b, std::ptrdiff_t rows) const {
        std::vector<Floats> found;
        for (std::size_t i = 0; i < data_.size(); ++i) {
            Floats& values = found.emplace_back();
            for (std::ptrdiff_t t = 0; t < rows; ++t) {
                const float* row = data_[i].data() + (t * batch_ + b) * model_.inputs[i].size;
                values.insert(values.end(), row, row + model_.inputs[i].size);
            }
        }
        return found;
    }
    std::ptrdiff_t rows() const { return rows_; }
    std::ptrdiff_t size() const { return batch_; }

private:
    const Drawn& model_;
    std::ptrdiff_t rows_;
    std::ptrdiff_t batch_;
    std::vector<Floats> data_;
};

// Where calls leave rows of outputs, (rows, B, size) each.
struct Answers {
    Answers(const Drawn& model, const std::vector<std::int64_t>& rows, std::ptrdiff_t batch) {
        for (std::size_t o = 0; o < rows.size(); ++o) {
            const std::ptrdiff_t size = model.size(model.outputs[o].value);
            data.emplace_back(size_of(static_cast<std::ptrdiff_t>(rows[o]) * batch * size) + 1, 99.0F);
            views.push_back({data.back().data(), batch * size, size});
        }
    }
    std::vector<Floats> data;
    std::vector<ModelRows<float>> views;
};

void check_whole(const Drawn& drawn, const std::shared_ptr<const Network>& model, const Batch& x, bool has_lengths) {
    std::vector<std::int64_t> lengths(size_of(x.size()), x.rows());
    for (std::int64_t& length : lengths) {
        if (has_lengths) length = draw(0, static_cast<int>(x.rows() / model->period())) * model->period();
    }
    const std::vector<std::int64_t> rows = model->rows_out(x.rows());
    Answers y(drawn, rows, x.size());
    CHECK(NetworkStream::run_whole(model, x.from(0).data(), x.rows(), x.size(), has_lengths ? lengths.data() : nullptr,
                                   y.views.data(), draw(1, 2), nullptr));
    for (std::ptrdiff_t b = 0; b < x.size(); ++b) {
        const auto values = values_of(drawn, x.sequence(b, static_cast<std::ptrdiff_t>(lengths[size_of(b)])), false);
        for (std::size_t o = 0; o < rows.size(); ++o) {
            Floats expected = values[drawn.outputs[o].value];
            const std::ptrdiff_t size = y.views[o].row_stride;
            expected.resize(size_of(static_cast<std::ptrdiff_t>(rows[o]) * size));
            for (std::size_t i = 0; i < expected.size(); ++i) {
                const auto t = static_cast<std::ptrdiff_t>(i) / size;
                CHECK(y.data[o][size_of((t * x.size() + b) * size) + i % size_of(size)] == expected[i]);
            }
        }
    }
}

// Whatever is given, copied out and in, and stepped together, a sequence answers as if it were alone and whole.
void check_stream(const Drawn& drawn, const std::shared_ptr<const Network>& model, const Batch& x) {
    NetworkStream stream(model, x.size(), draw(1, 6));
    const auto hop = static_cast<std::ptrdiff_t>(model->hop_in());
    for (int again = 0; again < 2; ++again) {
        std::vector<std::vector<Floats>> found(drawn.outputs.size(), std::vector<Floats>(size_of(x.size())));
        const auto take = [&](std::ptrdiff_t first, std::ptrdiff_t rows, bool is_end, bool is_many) {
            std::vector<std::int64_t> expected(drawn.outputs.size());
            stream.count(rows, is_end, expected.data());
            Answers y(drawn, expected, x.size());
            std::vector<std::int64_t> counts(drawn.outputs.size());
            if (is_end) {
                stream.flush(y.views.data(), counts.data());
            } else if (is_many) {
                std::vector<NetworkStream::StreamRow> streams;
                for (std::ptrdiff_t b = 0; b < x.size(); ++b) streams.push_back({&stream, b});
                ModelWorkspace workspace;
                NetworkStream::step_many(streams, x.from(first).data(), y.views.data(), counts.data(), workspace);
            } else {
                stream.process(x.from(first).data(), rows, y.views.data(), counts.data());
            }
            CHECK(counts == expected);
            for (std::size_t o = 0; o < counts.size(); ++o) {
                for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(counts[o]) * x.size(); ++i) {
                    Floats& row = found[o][size_of(i % x.size())];
                    const float* from = y.data[o].data() + i * y.views[o].row_stride;
                    row.insert(row.end(), from, from + y.views[o].row_stride);
                }
            }
        };
        for (std::ptrdiff_t first = 0, rows = 0; first < x.rows(); first += rows) {
            const std::ptrdiff_t left = x.rows() - first;
            const bool is_many = one_in(4) && hop <= std::min(left, stream.block());
            rows = is_many ? hop : std::min<std::ptrdiff_t>(left, draw(0, static_cast<int>(stream.block())));
            take(first, rows, false, is_many);
            for (std::ptrdiff_t b = 0; b < x.size() && one_in(3); ++b) {
                Floats state(stream.state_floats(first + rows));
                stream.get_state(b, state.data());
                stream.set_state(b, first + rows, state.data());
            }
        }
        take(x.rows(), 0, true, false);
        for (std::ptrdiff_t b = 0; b < x.size(); ++b) {
            const auto values = values_of(drawn, x.sequence(b, x.rows()), true);
            for (std::size_t o = 0; o < found.size(); ++o) {
                CHECK(found[o][size_of(b)] == values[drawn.outputs[o].value]);
            }
        }
        stream.reset();
    }
}

void drawn_models_have_the_bits_of_their_definition() {
    int whole = 0;
    int streams = 0;
    for (int i = 0; i < 1500; ++i) {
        const Drawn drawn = draw_model();
        std::shared_ptr<const Network> model;
        try {
            model = std::make_shared<const Network>(drawn.inputs, drawn.nodes, drawn.outputs, drawn.kernels);
        } catch (const std::invalid_argument&) {
            continue;    // of sources that do not meet
        }
        const auto period = static_cast<std::ptrdiff_t>(model->period());
        const Batch x(drawn, draw(1, 24) * period, draw(1, 3));
        try {
            model->rows_out(x.rows());
        } catch (const std::invalid_argument&) {
            continue;    // too short for its windows to be as many
        }
        check_whole(drawn, model, x, true);
        check_whole(drawn, model, x, false);
        ++whole;
        if (!model->why_no_streams().empty()) continue;
        check_stream(drawn, model, x);
        ++streams;
    }
    CHECK(whole > 800 && streams > 500);
}

}    // namespace
}    // namespace fusedcell::test

int main() {
    fusedcell::test::drawn_models_have_the_bits_of_their_definition();
    return 0;
}
