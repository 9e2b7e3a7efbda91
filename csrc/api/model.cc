// Model and ModelStream of include/fusedcell/fusedcell.h, on top of Network and NetworkStream.
#include <algorithm>
#include <utility>

#include "api/common.h"
#include "load/load_model.h"
#include "model/model_stream.h"
#include "pack/sizes.h"

namespace fusedcell {
namespace {

template <class T>
ModelRows<T> rows_at(T* data, std::ptrdiff_t rows, std::ptrdiff_t batch, std::ptrdiff_t size, bool batch_first) {
    return batch_first ? ModelRows<T>{data, size, rows * size} : ModelRows<T>{data, batch * size, size};
}

}    // namespace

struct Model::Data {
    LoadedModel loaded;

    const Network& network() const { return *loaded.model; }
};

Model::Model(std::shared_ptr<const Data> data) noexcept : data_(std::move(data)) {}

std::size_t Model::num_inputs() const noexcept { return data_->network().inputs().size(); }
std::size_t Model::num_outputs() const noexcept { return data_->network().outputs().size(); }
const std::string& Model::input_name(std::size_t input) const noexcept { return data_->network().inputs()[input].name; }
const std::string& Model::output_name(std::size_t output) const noexcept {
    return data_->network().outputs()[output].name;
}
std::size_t Model::input_size(std::size_t input) const noexcept {
    return size_of(data_->network().inputs()[input].size);
}
std::size_t Model::output_size(std::size_t output) const noexcept {
    return size_of(data_->network().output_size(output));
}
std::size_t Model::tokens(std::size_t input) const noexcept { return size_of(data_->network().inputs()[input].tokens); }
bool Model::batch_first() const noexcept { return data_->loaded.batch_first; }
const std::string& Model::why_no_streams() const noexcept { return data_->network().why_no_streams(); }
std::size_t Model::hop_in() const noexcept { return static_cast<std::size_t>(data_->network().hop_in()); }
std::size_t Model::hop_out() const noexcept { return static_cast<std::size_t>(data_->network().hop_out()); }
std::ptrdiff_t Model::delay() const noexcept { return static_cast<std::ptrdiff_t>(data_->network().delay()); }
const char* Model::isa() const noexcept { return data_->network().kernels().isa; }
std::size_t Model::nbytes() const noexcept { return data_->network().nbytes(); }

std::size_t Model::rows(std::size_t steps, std::size_t output) const {
    const std::ptrdiff_t known = steps == 0 ? 0 : checked_count(steps, "steps");
    return static_cast<std::size_t>(data_->network().rows_out(known)[output]);
}

void Model::run(const Input* inputs, float* const* outputs, std::size_t num_steps, std::size_t num_rows,
                const std::size_t* lengths) const {
    const Network& network = data_->network();
    const std::ptrdiff_t steps = num_steps == 0 ? 0 : checked_count(num_steps, "steps");
    const std::ptrdiff_t batch = checked_count(num_rows, "batch");
    std::vector<std::int64_t> own_lengths;
    for (std::size_t b = 0; lengths != nullptr && b < num_rows; ++b) {
        if (lengths[b] > num_steps) {
            throw std::invalid_argument("lengths: expected from 0 to " + std::to_string(num_steps) + ", got " +
                                        std::to_string(lengths[b]) + " at index " + std::to_string(b));
        }
        own_lengths.push_back(static_cast<std::int64_t>(lengths[b]));
        network.rows_out(own_lengths.back());
    }
    const std::vector<std::int64_t> rows_out = network.rows_out(steps);
    std::vector<std::vector<float>> tokens(network.inputs().size());
    std::vector<ModelRows<const float>> x;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        const float* floats = inputs[i].floats;
        if (network.inputs()[i].tokens > 0) {
            tokens[i].assign(inputs[i].tokens, inputs[i].tokens + product_of(steps, batch));
            floats = tokens[i].data();
        }
        x.push_back(rows_at(floats, steps, batch, network.inputs()[i].size, batch_first()));
    }
    std::vector<ModelRows<float>> y;
    for (std::size_t o = 0; o < rows_out.size(); ++o) {
        const auto rows = static_cast<std::ptrdiff_t>(rows_out[o]);
        y.push_back(rows_at(outputs[o], rows, batch, network.output_size(o), batch_first()));
    }
    NetworkStream::run_whole(data_->loaded.model, x.data(), steps, batch,
                             lengths == nullptr ? nullptr : own_lengths.data(), y.data(), 1, nullptr);
}

Model load_model(const void* data, std::size_t size, const std::string& isa) {
    return Model(std::make_shared<const Model::Data>(
        Model::Data{load_network(static_cast<const unsigned char*>(data), size, isa)}));
}

Model load_model(const std::string& path, const std::string& isa) {
    return load_file(path, [&](const void* data, std::size_t size) { return load_model(data, size, isa); });
}

struct ModelStream::Data {
    Model model;
    NetworkStream stream;
    // Of the call in hand.
    std::vector<std::vector<float>> tokens{};
    std::vector<ModelRows<const float>> x{};
    std::vector<ModelRows<float>> y{};
    std::vector<std::int64_t> rows{}, counts{};
    std::vector<Input> only_input{};

    const Network& network() const { return stream.model(); }

    void reserve() {
        for (const ModelInput& input : network().inputs()) {
            tokens.emplace_back(input.tokens > 0 ? count_of<float>(stream.block(), stream.batch()) : 0);
        }
        x.resize(tokens.size());
        only_input.assign(tokens.size(), static_cast<const float*>(nullptr));
        y.resize(network().outputs().size());
        rows.resize(y.size());
        counts.resize(y.size());
    }

    void set_outputs(float* const* outputs) {
        for (std::size_t o = 0; o < y.size(); ++o) {
            y[o] = rows_at(outputs[o], static_cast<std::ptrdiff_t>(rows[o]), stream.batch(), network().output_size(o),
                           model.batch_first());
        }
    }

    // Inputs from a row on; of tokens, so many rows as floats in memory of their own.
    void set_inputs(const Input* inputs, std::ptrdiff_t all, std::ptrdiff_t first, std::ptrdiff_t count) {
        const std::ptrdiff_t batch = stream.batch();
        for (std::size_t i = 0; i < x.size(); ++i) {
            const ModelInput& input = network().inputs()[i];
            if (input.tokens == 0) {
                x[i] = rows_at(inputs[i].floats, all, batch, input.size, model.batch_first());
                x[i].data += first * x[i].step_stride;
                continue;
            }
            const auto from = rows_at(inputs[i].tokens, all, batch, 1, model.batch_first());
            x[i] = {tokens[i].data(), batch, 1};
            for (std::ptrdiff_t t = 0; t < count; ++t) {
                for (std::ptrdiff_t b = 0; b < batch; ++b) {
                    const std::int32_t token = from.data[(first + t) * from.step_stride + b * from.row_stride];
                    tokens[i][size_of(t * batch + b)] = static_cast<float>(token);
                }
            }
        }
    }

    std::size_t answered(std::size_t* own_counts) const {
        for (std::size_t o = 0; own_counts != nullptr && o < rows.size(); ++o) {
            own_counts[o] = static_cast<std::size_t>(rows[o]);
        }
        return static_cast<std::size_t>(rows[0]);
    }
};

ModelStream::ModelStream(const Model& model, std::size_t num_rows, std::size_t num_steps) {
    if (!model.why_no_streams().empty()) {
        throw std::invalid_argument("model: " + model.why_no_streams() +
                                    ", so it has no streams; call Model::run instead");
    }
    const std::ptrdiff_t batch = checked_count(num_rows, "batch");
    const std::ptrdiff_t block = checked_count(std::max(num_steps, model.hop_in()), "block");
    data_ = std::make_unique<Data>(Data{model, NetworkStream(model.data_->loaded.model, batch, block)});
    data_->reserve();
}

ModelStream::ModelStream(const ModelStream& other) : data_(std::make_unique<Data>(*other.data_)) {}
ModelStream::ModelStream(ModelStream&& other) noexcept = default;
ModelStream& ModelStream::operator=(ModelStream other) noexcept {
    data_ = std::move(other.data_);
    return *this;
}
ModelStream::~ModelStream() = default;

std::size_t ModelStream::process(const Input* inputs, std::size_t num_rows, float* const* outputs,
                                 std::size_t* counts) noexcept FUSEDCELL_NONBLOCKING {
    Data& data = *data_;
    const auto all = data.stream.has_ended() ? 0 : static_cast<std::ptrdiff_t>(num_rows);
    data.stream.count(all, false, data.rows.data());
    data.set_outputs(outputs);
    for (std::ptrdiff_t first = 0; first < all; first += data.stream.block()) {
        const std::ptrdiff_t count = std::min(all - first, data.stream.block());
        data.set_inputs(inputs, all, first, count);
        data.stream.process(data.x.data(), count, data.y.data(), data.counts.data());
        for (std::size_t o = 0; o < data.y.size(); ++o) {
            data.y[o].data += static_cast<std::ptrdiff_t>(data.counts[o]) * data.y[o].step_stride;
        }
    }
    return data.answered(counts);
}

std::size_t ModelStream::process(const float* x, std::size_t rows, float* y) noexcept FUSEDCELL_NONBLOCKING {
    const std::vector<ModelInput>& all = data_->network().inputs();
    if (all.size() != 1 || all.front().tokens > 0 || data_->y.size() != 1) return 0;
    data_->only_input.front() = x;
    return process(data_->only_input.data(), rows, &y);
}

std::size_t ModelStream::flush(float* const* outputs, std::size_t* counts) noexcept FUSEDCELL_NONBLOCKING {
    Data& data = *data_;
    const bool is_first = !data.stream.has_ended();
    data.stream.count(0, is_first, data.rows.data());
    data.set_outputs(outputs);
    if (is_first) data.stream.flush(data.y.data(), data.counts.data());
    return data.answered(counts);
}

std::size_t ModelStream::rows_of_process(std::size_t rows, std::size_t output) noexcept FUSEDCELL_NONBLOCKING {
    data_->stream.count(data_->stream.has_ended() ? 0 : static_cast<std::ptrdiff_t>(rows), false, data_->rows.data());
    return static_cast<std::size_t>(data_->rows[output]);
}

std::size_t ModelStream::rows_of_flush(std::size_t output) noexcept FUSEDCELL_NONBLOCKING {
    data_->stream.count(0, !data_->stream.has_ended(), data_->rows.data());
    return static_cast<std::size_t>(data_->rows[output]);
}

void ModelStream::reset() noexcept FUSEDCELL_NONBLOCKING { data_->stream.reset(); }

void ModelStream::reset(std::size_t row) noexcept FUSEDCELL_NONBLOCKING {
    data_->stream.reset_row(static_cast<std::ptrdiff_t>(row));
}

void ModelStream::reorder(const std::size_t* rows) {
    std::vector<std::ptrdiff_t> order;
    for (std::size_t b = 0; b < batch(); ++b) {
        if (rows[b] >= batch()) {
            throw std::invalid_argument("rows: expected from 0 to " + std::to_string(batch() - 1) + ", got " +
                                        std::to_string(rows[b]));
        }
        order.push_back(static_cast<std::ptrdiff_t>(rows[b]));
    }
    if (!data_->stream.has_ended()) data_->stream.reorder(order);
}

const Model& ModelStream::model() const noexcept { return data_->model; }
std::size_t ModelStream::batch() const noexcept { return size_of(data_->stream.batch()); }

}    // namespace fusedcell
