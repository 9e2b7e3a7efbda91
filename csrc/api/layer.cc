// Layer and Stream of include/fusedcell/fusedcell.h, on top of Stack and StreamState.
#include <algorithm>
#include <utility>

#include "api/common.h"
#include "cpu/dispatch.h"
#include "load/load.h"
#include "model/names.h"
#include "model/stream.h"
#include "pack/sizes.h"

namespace fusedcell {

struct Layer::Data {
    LoadedLayer loaded;

    const Stack& stack() const { return *loaded.stack; }
    const Geometry& geometry() const { return loaded.stack->geometry(); }

    // The initial state's h or c for so many rows, or zeros: (states, batch, size).
    std::vector<float> start(const std::vector<float>& initial, std::ptrdiff_t batch, std::ptrdiff_t size) const {
        const std::ptrdiff_t states = geometry().num_layers * geometry().num_directions;
        std::vector<float> state(count_of<float>(states, batch, size));
        if (initial.empty()) return state;
        const std::ptrdiff_t rows = loaded.initial_rows;
        if (rows != 1 && rows != batch) {
            throw std::invalid_argument("batch: the layer's initial state is for a batch of " + std::to_string(rows) +
                                        ", not " + std::to_string(batch));
        }
        for (std::ptrdiff_t i = 0; i < states; ++i) {
            for (std::ptrdiff_t b = 0; b < batch; ++b) {
                const auto source = initial.begin() + (i * rows + (rows == 1 ? 0 : b)) * size;
                std::copy_n(source, size, state.begin() + (i * batch + b) * size);
            }
        }
        return state;
    }
};

Layer::Layer(std::shared_ptr<const Data> data) noexcept : data_(std::move(data)) {}

std::size_t Layer::input_size() const noexcept { return size_of(data_->geometry().input_size); }
std::size_t Layer::hidden_size() const noexcept { return size_of(data_->geometry().hidden_size); }
std::size_t Layer::output_size() const noexcept { return size_of(data_->geometry().output_size()); }
std::size_t Layer::num_layers() const noexcept { return size_of(data_->geometry().num_layers); }
std::size_t Layer::num_directions() const noexcept { return size_of(data_->geometry().num_directions); }
bool Layer::batch_first() const noexcept { return data_->loaded.batch_first; }
bool Layer::reverse() const noexcept { return data_->geometry().reverse; }
bool Layer::has_cell_state() const noexcept { return data_->geometry().has_cell_state(); }
const char* Layer::dtype() const noexcept {
    const std::optional<WeightType> type = data_->stack().type();
    return type ? name_of(*type) : "mixed";
}
const char* Layer::isa() const noexcept { return data_->stack().kernels().isa; }
std::size_t Layer::nbytes() const noexcept { return data_->stack().nbytes(); }

void Layer::run(const float* x, float* y, std::size_t num_steps, std::size_t num_rows, float* h, float* c) const {
    const Geometry& geometry = data_->geometry();
    if (num_steps == 0) return;
    const std::ptrdiff_t steps = checked_count(num_steps, "steps");
    const std::ptrdiff_t batch = checked_count(num_rows, "batch");
    const std::ptrdiff_t inputs = geometry.input_size;
    const std::ptrdiff_t outputs = geometry.num_directions * geometry.output_size();
    std::vector<float> own_h;
    std::vector<float> own_c;
    if (h == nullptr) {
        own_h = data_->start(data_->loaded.initial_h, batch, geometry.output_size());
        h = own_h.data();
    }
    if (c == nullptr && geometry.has_cell_state()) {
        own_c = data_->start(data_->loaded.initial_c, batch, geometry.hidden_size);
        c = own_c.data();
    }
    Workspace workspace;
    data_->stack().run({steps,
                        batch,
                        sequence_view(x, steps, batch, inputs, batch_first()),
                        sequence_view(y, steps, batch, outputs, batch_first()),
                        {h, h, c},
                        nullptr},
                       workspace);
}

Layer load(const void* data, std::size_t size, const std::string& isa) {
    return Layer(std::make_shared<const Layer::Data>(
        Layer::Data{load_layer(static_cast<const unsigned char*>(data), size, isa)}));
}

Layer load(const std::string& path, const std::string& isa) {
    return load_file(path, [&](const void* data, std::size_t size) { return load(data, size, isa); });
}

struct Stream::Data {
    Layer layer;
    std::ptrdiff_t block;
    StreamState state;

    Data(const Layer& own_layer, std::ptrdiff_t batch, std::ptrdiff_t block_steps)
        : layer(own_layer), block(block_steps), state(own_layer.data_->loaded.stack, batch) {
        state.reserve(block);
    }
    Data(const Data& other) : layer(other.layer), block(other.block), state(other.state) { state.reserve(block); }
    Data& operator=(const Data&) = delete;
};

Stream::Stream(const Layer& layer, std::size_t num_rows, std::size_t num_steps) {
    const Layer::Data& data = *layer.data_;
    const Geometry& geometry = data.geometry();
    if (geometry.num_directions != 1 || geometry.reverse) {
        throw std::invalid_argument(std::string("layer: a ") + (geometry.reverse ? "reverse" : "bidirectional") +
                                    " layer needs the whole sequence, so it has no streams; call Layer::run instead");
    }
    const std::ptrdiff_t batch = checked_count(num_rows, "batch");
    const std::ptrdiff_t block = checked_count(num_steps, "block");
    data_ = std::make_unique<Data>(layer, batch, block);
    if (data.loaded.initial_h.empty()) return;
    const std::vector<float> h = data.start(data.loaded.initial_h, batch, geometry.output_size());
    const std::vector<float> c = data.start(data.loaded.initial_c, batch, geometry.hidden_size);
    data_->state.states().start_from(h.data(), geometry.has_cell_state() ? c.data() : nullptr);
}

Stream::Stream(const Stream& other) : data_(std::make_unique<Data>(*other.data_)) {}
Stream::Stream(Stream&& other) noexcept = default;
Stream& Stream::operator=(Stream other) noexcept {
    data_ = std::move(other.data_);
    return *this;
}
Stream::~Stream() = default;

void Stream::step(const float* x, float* y) noexcept FUSEDCELL_NONBLOCKING { data_->state.step(x, y); }

void Stream::process(const float* x, float* y, std::size_t steps) noexcept FUSEDCELL_NONBLOCKING {
    StreamState& state = data_->state;
    const NodeShape& shape = state.node().shape();
    const auto all = static_cast<std::ptrdiff_t>(steps);
    const bool batch_first = data_->layer.batch_first();
    auto x_view = sequence_view(x, all, state.batch(), shape.input_size, batch_first);
    auto y_view = sequence_view(y, all, state.batch(), shape.output_size, batch_first);
    for (std::ptrdiff_t left = all; left > 0;) {
        const std::ptrdiff_t count = std::min(left, data_->block);
        if (count == 1 && state.batch() == 1) {
            state.step(x_view.data, y_view.data);
        } else {
            state.process(x_view, y_view, count);
        }
        x_view.data += count * x_view.step_stride;
        y_view.data += count * y_view.step_stride;
        left -= count;
    }
}

void Stream::reset() noexcept FUSEDCELL_NONBLOCKING {
    for (std::ptrdiff_t row = 0; row < data_->state.batch(); ++row) data_->state.states().reset_row(row);
}

void Stream::reset(std::size_t row) noexcept FUSEDCELL_NONBLOCKING {
    data_->state.states().reset_row(static_cast<std::ptrdiff_t>(row));
}

float* Stream::h() noexcept { return data_->state.states().h(); }
float* Stream::c() noexcept { return data_->state.states().c(); }
const float* Stream::h() const noexcept { return data_->state.states().h(); }
const float* Stream::c() const noexcept { return data_->state.states().c(); }

const Layer& Stream::layer() const noexcept { return data_->layer; }
std::size_t Stream::batch() const noexcept { return size_of(data_->state.batch()); }

std::vector<std::string> isas() {
    std::vector<std::string> names;
    for (const KernelTable* tier : available_tiers()) names.emplace_back(tier->isa);
    return names;
}

const char* version() noexcept { return FUSEDCELL_VERSION; }

}    // namespace fusedcell
