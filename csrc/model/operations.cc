#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "model/names.h"
#include "model/operation.h"
#include "pack/sizes.h"

namespace fusedcell {
namespace {

const float* floats_of(const LinearRow& row) { return static_cast<const float*>(row.input); }

class Linear final : public Operation {
public:
    Linear(const LinearWeights& weights, const Activation* activation, const KernelTable& kernels)
        : Operation(product_of(weights.taps, weights.features), weights.outputs),
          taps_(weights.taps),
          features_(weights.features / weights.groups),
          outputs_(weights.outputs / weights.groups),
          activate_(activation == nullptr ? nullptr : kernels.activate),
          activation_(activation == nullptr ? Activation{} : *activation) {
        const WeightType type = weights.weight.type;
        if (kernels_for(kernels, type).linear.run == nullptr) {
            throw std::invalid_argument(std::string("this build of fusedcell leaves out ") + name_of(type) +
                                        " weights");
        }
        const std::ptrdiff_t depth = taps_ * features_;
        std::ptrdiff_t first = 0;
        const auto row = [&](int, std::ptrdiff_t unit) {
            const std::ptrdiff_t output = first + unit;
            return SourceRow{weights.weight.values + output * depth,
                             weights.bias == nullptr ? 0.0F : weights.bias[output],
                             weights.weight.scales == nullptr ? 0.0F : weights.weight.scales[output]};
        };
        const bool is_sparse =
            weights.groups == 1 && PackedLinear::pays_sparse(kernels, weights.weight, 1, outputs_, depth);
        const PackedLinear group =
            is_sparse ? PackedLinear::sparse(kernels, type, 1, outputs_, depth, outputs_, row)
                      : PackedLinear(kernels, type, &WeightKernels::linear, 1, outputs_, depth, outputs_);
        groups_.assign(static_cast<std::size_t>(weights.groups), group);
        memory_ = AlignedBuffer(static_cast<std::size_t>(product_of(weights.groups, to_size(group.nbytes()))));
        unsigned char* destination = memory_.data();
        for (PackedLinear& matrix : groups_) {
            destination = matrix.pack(row, destination);
            matrix.leave_out_zeros(kernels, row);
            first += outputs_;
        }
    }

    void run(const LinearRow* rows, std::ptrdiff_t num_rows, OperationSpace& space) const override {
        for (std::size_t g = 0; g < groups_.size(); ++g) {
            const PackedLinear& matrix = groups_[g];
            const LinearRow* inputs = rows;
            if (has_own_rows()) {
                gather(static_cast<std::ptrdiff_t>(g), rows, num_rows, space);
                matrix.set_inputs(space.rows.data(), num_rows, {InputScale::kLargest}, space.inputs);
                inputs = space.rows.data();
            }
            const BlockRange blocks{0, matrix.blocks(), false};
            if (num_rows == 1 && matrix.has_zeros(floats_of(*inputs), space.inputs)) {
                const LinearRow nonzero{&space.inputs.nonzero, inputs->y};
                matrix.run(&WeightKernels::nonzero, &nonzero, 1, blocks);
            } else {
                matrix.run(&WeightKernels::linear, inputs, num_rows, blocks);
            }
        }
        if (activate_ == nullptr) return;
        for (std::ptrdiff_t r = 0, next = 1; r < num_rows; r = next++) {
            while (next < num_rows && rows[next].y == rows[next - 1].y + output_size()) ++next;
            activate_(rows[r].y, rows[r].y, (next - r) * output_size(), activation_);
        }
    }

    void reserve(std::ptrdiff_t rows, OperationSpace& space) const override {
        if (has_own_rows()) grow(space.rows, rows);
        if (has_own_inputs()) grow(space.floats, rows, taps_ * features_);
        for (const PackedLinear& group : groups_) group.reserve(rows, space.inputs);
    }

    double operations() const override { return groups_.front().operations() * static_cast<double>(groups_.size()); }
    std::size_t nbytes() const override { return memory_.size(); }

private:
    bool has_own_rows() const { return groups_.size() > 1 || is_quantised(groups_.front().type()); }
    bool has_own_inputs() const { return groups_.size() > 1 && taps_ > 1; }

    // A group's part of each window, and of each result.
    void gather(std::ptrdiff_t group, const LinearRow* rows, std::ptrdiff_t num_rows, OperationSpace& space) const {
        const std::ptrdiff_t tap_size = window_size() / taps_;
        float* own = space.floats.data();
        for (std::ptrdiff_t r = 0; r < num_rows; ++r) {
            const float* x = floats_of(rows[r]) + group * features_;
            space.rows[static_cast<std::size_t>(r)] = {x, rows[r].y + group * outputs_};
            if (!has_own_inputs()) continue;
            space.rows[static_cast<std::size_t>(r)].input = own;
            for (std::ptrdiff_t t = 0; t < taps_; ++t) own = std::copy_n(x + t * tap_size, features_, own);
        }
    }

    std::ptrdiff_t taps_;
    std::ptrdiff_t features_;    // of a tap, as the next of one group
    std::ptrdiff_t outputs_;
    ActivationKernel activate_;    // null: none
    Activation activation_;
    std::vector<PackedLinear> groups_;
    AlignedBuffer memory_;
};

// The entries of an embedding, packed as one long row of a matrix.
class Table {
public:
    Table(const MatrixView& table, std::ptrdiff_t entries, std::ptrdiff_t size) : entries_(entries), size_(size) {
        const bool has_scales = is_quantised(table.type);
        PanelShape shape;
        shape.type = table.type;
        const std::ptrdiff_t floats = product_of(entries, size);
        memory_ = AlignedBuffer(packed_size(shape, 1, floats));
        pack(shape, {{table.values, 0.0F, has_scales ? 1.0F : 0.0F}}, floats, memory_.data());
        if (has_scales) scales_.assign(table.scales, table.scales + entries);
        type_ = table.type;
    }

    std::size_t nbytes() const { return memory_.size() + bytes_of(scales_); }

    void operator()(const float* x, float* y) const {
        if (!(*x >= 0.0F && *x < static_cast<float>(entries_))) {
            std::fill_n(y, size_, std::numeric_limits<float>::quiet_NaN());
            return;
        }
        const auto entry = static_cast<std::ptrdiff_t>(*x);
        const auto widen = [&](const auto* values, const auto& function) {
            std::transform(values + entry * size_, values + (entry + 1) * size_, y, function);
        };
        const auto* halves = reinterpret_cast<const std::uint16_t*>(memory_.data());
        const auto* floats = reinterpret_cast<const float*>(memory_.data());
        switch (type_) {
            case WeightType::float32: widen(floats, [](float value) { return value; }); break;
            case WeightType::bfloat16: widen(halves, &from_bfloat16); break;
            case WeightType::float16: widen(halves, &from_float16); break;
            case WeightType::int8:
            case WeightType::int8_int16:    // behind the scale of the long row
                widen(reinterpret_cast<const std::int8_t*>(floats + 1), [&](std::int8_t value) {
                    return scales_[static_cast<std::size_t>(entry)] * static_cast<float>(value);
                });
                break;
        }
    }

private:
    std::ptrdiff_t entries_;
    std::ptrdiff_t size_;
    WeightType type_;
    AlignedBuffer memory_;
    std::vector<float> scales_;
};

// What does with each row the same, by itself.
template <class Function>
class OfRow final : public Operation {
public:
    OfRow(std::ptrdiff_t window_size, std::ptrdiff_t output_size, std::size_t nbytes, Function function)
        : Operation(window_size, output_size), nbytes_(nbytes), function_(std::move(function)) {}

    void run(const LinearRow* rows, std::ptrdiff_t num_rows, OperationSpace&) const override {
        for (std::ptrdiff_t r = 0; r < num_rows; ++r) function_(floats_of(rows[r]), rows[r].y);
    }
    std::size_t nbytes() const override { return nbytes_; }

private:
    std::size_t nbytes_;
    Function function_;
};

template <class Function>
std::shared_ptr<const Operation> of_row(std::ptrdiff_t window_size, std::ptrdiff_t output_size, std::size_t nbytes,
                                        Function function) {
    return std::make_shared<OfRow<Function>>(window_size, output_size, nbytes, std::move(function));
}

class Inside final : public Operation {
public:
    Inside(std::shared_ptr<const Operation> operation, const Window& window, std::ptrdiff_t positions)
        : Operation(product_of(positions, operation->window_size() / static_cast<std::ptrdiff_t>(window.taps)),
                    product_of(to_size(window.windows(positions, true)), operation->output_size())),
          operation_(std::move(operation)),
          window_(window),
          windows_(static_cast<std::ptrdiff_t>(window.windows(positions, true))),
          features_(operation_->window_size() / static_cast<std::ptrdiff_t>(window.taps)) {}

    void run(const LinearRow* rows, std::ptrdiff_t num_rows, OperationSpace& space) const override {
        const auto step = static_cast<std::ptrdiff_t>(window_.stride) * features_;
        for (std::ptrdiff_t r = 0; r < num_rows; ++r) {
            const float* x = pad(floats_of(rows[r]), space);
            float* gathered = space.padded.data() + padded_floats();
            for (std::ptrdiff_t w = 0; w < windows_; ++w) {
                const float* first = x + w * step;
                space.positions[static_cast<std::size_t>(w)] = {is_spread() ? gathered : first,
                                                                rows[r].y + w * operation_->output_size()};
                for (std::ptrdiff_t t = 0; is_spread() && t < window_.taps; ++t) {
                    gathered = std::copy_n(first + t * window_.dilation * features_, features_, gathered);
                }
            }
            operation_->run(space.positions.data(), windows_, space);
        }
    }

    void reserve(std::ptrdiff_t, OperationSpace& space) const override {
        grow(space.positions, windows_);
        grow(space.padded, sum_of(padded_floats(), is_spread() ? product_of(windows_, operation_->window_size()) : 0));
        operation_->reserve(windows_, space);
    }

    double operations() const override { return operation_->operations() * static_cast<double>(windows_); }
    std::size_t nbytes() const override { return operation_->nbytes(); }

private:
    bool is_spread() const { return window_.dilation > 1 && window_.taps > 1; }
    std::ptrdiff_t before() const { return static_cast<std::ptrdiff_t>(window_.left) * features_; }
    std::ptrdiff_t after() const { return static_cast<std::ptrdiff_t>(window_.right) * features_; }
    std::ptrdiff_t padded_floats() const {
        return before() + after() == 0 ? 0 : sum_of(window_size(), before() + after());
    }
    const float* pad(const float* x, OperationSpace& space) const {
        if (padded_floats() == 0) return x;
        float* padded = space.padded.data();
        std::fill_n(std::copy_n(x, window_size(), std::fill_n(padded, before(), 0.0F)), after(), 0.0F);
        return padded;
    }

    std::shared_ptr<const Operation> operation_;
    Window window_;
    std::ptrdiff_t windows_;
    std::ptrdiff_t features_;    // of a position
};

class LayerInside final : public Operation {
public:
    LayerInside(std::shared_ptr<const Node> layer, std::vector<float> initial_h, std::vector<float> initial_c,
                std::ptrdiff_t positions)
        : Operation(product_of(positions, layer->shape().input_size),
                    product_of(positions, layer->shape().output_size)),
          layer_(std::move(layer)),
          initial_h_(std::move(initial_h)),
          initial_c_(std::move(initial_c)),
          positions_(positions) {
        const NodeShape& shape = layer_->shape();    // without initial states zeros
        initial_h_.resize(count_of<float>(shape.state_layers, shape.h_size));
        initial_c_.resize(count_of<float>(shape.state_layers, shape.c_size));
    }

    // The rows are a batch of sequences.
    void run(const LinearRow* rows, std::ptrdiff_t num_rows, OperationSpace& space) const override {
        const NodeShape& shape = layer_->shape();
        for (std::ptrdiff_t batch; num_rows > 0; rows += batch, num_rows -= batch) {
            batch = std::min(num_rows, most_rows());
            float* const x = space.floats.data();
            float* const y = x + batch * window_size();
            float* const h = y + batch * output_size();
            float* const c = start(initial_h_, shape.h_size, batch, h);
            start(initial_c_, shape.c_size, batch, c);
            for (std::ptrdiff_t b = 0; b < batch; ++b) {
                std::copy_n(floats_of(rows[b]), window_size(), x + b * window_size());
            }
            layer_->run({positions_,
                         batch,
                         sequence_view<const float>(x, positions_, batch, shape.input_size, true),
                         sequence_view(y, positions_, batch, shape.output_size, true),
                         {h, h, shape.c_size > 0 ? c : nullptr},
                         nullptr},
                        space.layer);
            for (std::ptrdiff_t b = 0; b < batch; ++b) {
                std::copy_n(y + b * output_size(), output_size(), rows[b].y);
            }
        }
    }

    void reserve(std::ptrdiff_t rows, OperationSpace& space) const override {
        const NodeShape& shape = layer_->shape();
        const std::ptrdiff_t states = product_of(shape.state_layers, sum_of(shape.h_size, shape.c_size));
        rows = std::min(rows, most_rows());
        grow(space.floats, rows, sum_of(sum_of(window_size(), output_size()), states));
        layer_->reserve(positions_, rows, space.layer);
    }

    double operations() const override { return layer_->step_operations() * static_cast<double>(positions_); }
    std::size_t nbytes() const override { return layer_->nbytes(); }

private:
    // So few that they stay in a cache.
    std::ptrdiff_t most_rows() const {
        return std::clamp<std::ptrdiff_t>((std::ptrdiff_t{1} << 15) / (window_size() + output_size()), 1, 128);
    }
    // Returns the end of the states (S, batch, size).
    float* start(const std::vector<float>& initial, std::ptrdiff_t size, std::ptrdiff_t batch, float* states) const {
        for (std::ptrdiff_t i = 0; i < layer_->shape().state_layers * batch; ++i, states += size) {
            std::copy_n(initial.data() + i / batch * size, size, states);
        }
        return states;
    }

    std::shared_ptr<const Node> layer_;
    std::vector<float> initial_h_, initial_c_;
    std::ptrdiff_t positions_;
};

}    // namespace

void Operation::reserve(std::ptrdiff_t, OperationSpace&) const {}

std::shared_ptr<const Operation> make_linear(const LinearWeights& weights, const Activation* activation,
                                             const KernelTable& kernels) {
    return std::make_shared<Linear>(weights, activation, kernels);
}

std::shared_ptr<const Operation> make_embedding(const MatrixView& table, std::ptrdiff_t entries, std::ptrdiff_t size) {
    Table values(table, entries, size);
    const std::size_t nbytes = values.nbytes();
    return of_row(1, size, nbytes, std::move(values));
}

std::shared_ptr<const Operation> make_take(std::vector<std::ptrdiff_t> indices, std::ptrdiff_t size) {
    const auto outputs = static_cast<std::ptrdiff_t>(indices.size());
    const std::size_t nbytes = bytes_of(indices);
    return of_row(size, outputs, nbytes, [indices = std::move(indices)](const float* x, float* y) {
        for (const std::ptrdiff_t index : indices) *y++ = x[index];
    });
}

std::shared_ptr<const Operation> make_activation(const Activation& activation, std::ptrdiff_t size,
                                                 const KernelTable& kernels) {
    return of_row(size, size, 0, [activation, size, activate = kernels.activate](const float* x, float* y) {
        activate(x, y, size, activation);
    });
}

std::shared_ptr<const Operation> make_row_operation(RowKernel kernel, const RowShape& shape, std::ptrdiff_t output_size,
                                                    std::vector<float> weight, std::vector<float> bias, float epsilon) {
    const std::size_t nbytes = bytes_of(weight, bias);
    return of_row(product_of(shape.parts, shape.size), output_size, nbytes,
                  [=, weight = std::move(weight), bias = std::move(bias)](const float* x, float* y) {
                      kernel(x, y, shape,
                             {weight.empty() ? nullptr : weight.data(), bias.empty() ? nullptr : bias.data(), epsilon});
                  });
}

std::shared_ptr<const Operation> make_inside(std::shared_ptr<const Operation> operation, const Window& window,
                                             std::ptrdiff_t positions) {
    return std::make_shared<Inside>(std::move(operation), window, positions);
}

std::shared_ptr<const Operation> make_layer_inside(std::shared_ptr<const Node> layer, std::vector<float> initial_h,
                                                   std::vector<float> initial_c, std::ptrdiff_t positions) {
    return std::make_shared<LayerInside>(std::move(layer), std::move(initial_h), std::move(initial_c), positions);
}

}    // namespace fusedcell
