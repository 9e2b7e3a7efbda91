#include "model/packed_cell.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace fusedcell {
namespace {

// Rows of the input projection computed at a time: enough that streaming W once for all of them costs little, few
// enough that they are still in cache when the recurrence reads them.
constexpr std::ptrdiff_t kProjectionRows = 128;

// Bytes of weights that even a small second-level cache keeps from step to step, so that the way through them is all
// one.
constexpr std::size_t kFitsNearCaches = std::size_t{1} << 18;

constexpr int kGateN = 2;

// Quantised inputs live in an array of floats, for their alignment.
constexpr std::ptrdiff_t kQuantisedUnit = sizeof(float);

float at_or_zero(const float* values, std::ptrdiff_t index) { return values == nullptr ? 0.0F : values[index]; }

SourceRow source_row(const MatrixView& matrix, std::ptrdiff_t row, std::ptrdiff_t depth, float initial) {
    return {matrix.values + row * depth, initial, at_or_zero(matrix.scales, row)};
}

const WeightKernels& kernels_for(const KernelTable& table, WeightType type) {
    switch (type) {
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) \
    case WeightType::name: return table.name;
#include "kernels/weight_types.inc"
    }
    return table.float32;
}

// The blocks of a matrix that are this worker's.
BlockRange blocks_of(const PackedMatrix& matrix, const CellWorker& worker) {
    const auto [index, count, barrier] = worker.part;
    if (count == 1) return {0, matrix.blocks, worker.own.backward};
    return {matrix.blocks * index / count, matrix.blocks * (index + 1) / count, worker.own.backward};
}

template <class T>
void grow(std::vector<T>& values, std::ptrdiff_t size) {
    if (values.size() < static_cast<std::size_t>(size)) values.resize(static_cast<std::size_t>(size));
}

}    // namespace

PackedCell::PackedCell(const Geometry& geometry, std::ptrdiff_t input_size, const CellWeights& weights, WeightType type,
                       float input_scale, const KernelTable& table)
    : table_(&table),
      kernels_(&kernels_for(table, type)),
      type_(type),
      geometry_(geometry),
      input_size_(input_size),
      input_scale_{input_scale > 0.0F ? InputScale::kFixed : InputScale::kLargest, input_scale} {
    const CellKind kind = geometry.kind;
    const std::ptrdiff_t hidden = geometry.hidden_size;
    const std::ptrdiff_t recurrent_depth = geometry.output_size();
    const int lanes = table.lanes;
    const int gates = gates_of(kind);
    const std::ptrdiff_t panels = panels_for(hidden, lanes);
    padded_hidden_ = panels * lanes;
    projection_floats_ = padded_hidden_ * gates;

    // The GRU with reset_after multiplies b_hn by r, so it starts the chain of R_n instead of joining the input's bias.
    const bool separate_candidate_bias = kind == CellKind::kGruResetAfter;
    const auto input_row = [&](int gate, std::ptrdiff_t unit) {
        const std::ptrdiff_t row = gate * hidden + unit;
        const float recurrent_bias =
            separate_candidate_bias && gate == kGateN ? 0.0F : at_or_zero(weights.bias_hh, row);
        return source_row(weights.weight_ih, row, input_size, at_or_zero(weights.bias_ih, row) + recurrent_bias);
    };
    const auto recurrent_row = [&](int gate, std::ptrdiff_t unit) {
        const std::ptrdiff_t row = gate * hidden + unit;
        const float initial = separate_candidate_bias && gate == kGateN ? at_or_zero(weights.bias_hh, row) : 0.0F;
        return source_row(weights.weight_hh, row, recurrent_depth, initial);
    };
    const auto candidate_row = [&](int, std::ptrdiff_t unit) { return recurrent_row(kGateN, unit); };
    const auto output_row = [&](int, std::ptrdiff_t unit) { return source_row(weights.weight_hr, unit, hidden, 0.0F); };

    struct Part {
        PackedMatrix* matrix;
        PanelShape shape;
        std::vector<SourceRow> rows;
        std::ptrdiff_t depth;
        std::ptrdiff_t columns;
    };
    std::vector<Part> parts;
    parts.push_back({&input_, shape_of(kernels_->linear), panel_order(hidden, gates, lanes, input_row), input_size,
                     projection_floats_});
    const MatrixKernel<CellRow>& recurrent = recurrent_kernel();
    parts.push_back({&recurrent_, shape_of(recurrent), panel_order(hidden, recurrent.gates, lanes, recurrent_row),
                     recurrent_depth, hidden});
    if (kind == CellKind::kGruResetBefore) {
        parts.push_back({&candidate_, shape_of(kernels_->gru_reset_before_candidate),
                         panel_order(hidden, 1, lanes, candidate_row), recurrent_depth, hidden});
    }
    if (geometry.proj_size > 0) {
        parts.push_back({&output_, shape_of(kernels_->linear), panel_order(geometry.proj_size, 1, lanes, output_row),
                         hidden, geometry.proj_size});
    }

    std::size_t size = 0;
    for (Part& part : parts) {
        part.matrix->panels = static_cast<std::ptrdiff_t>(part.rows.size()) / part.shape.gates / lanes;
        part.matrix->blocks = (part.matrix->panels + part.shape.panels_per_block - 1) / part.shape.panels_per_block;
        part.matrix->depth = part.depth;
        part.matrix->columns = part.columns;
        size += packed_size(part.shape, part.matrix->panels, part.depth);
    }
    memory_ = AlignedBuffer(size);
    unsigned char* destination = memory_.data();
    for (const Part& part : parts) {
        pack(part.shape, part.rows, part.depth, destination);
        part.matrix->data = destination;
        destination += packed_size(part.shape, part.matrix->panels, part.depth);
    }
}

// Steps [first, first + steps) of a run in processing order: step s of a row is time s, or length - 1 - s in reverse.
struct PackedCell::Chunk {
    std::ptrdiff_t first;
    std::ptrdiff_t steps;
};

namespace {

std::ptrdiff_t length_of(const CellRun& run, std::ptrdiff_t row) {
    return run.lengths == nullptr ? run.steps : static_cast<std::ptrdiff_t>(run.lengths[row]);
}

std::ptrdiff_t time_of(const CellRun& run, std::ptrdiff_t row, std::ptrdiff_t step) {
    return run.reverse ? length_of(run, row) - 1 - step : step;
}

}    // namespace

std::ptrdiff_t PackedCell::projection_steps(std::ptrdiff_t batch) {
    return batch < kProjectionRows ? (kProjectionRows + batch - 1) / std::max<std::ptrdiff_t>(batch, 1) : 1;
}

std::ptrdiff_t PackedCell::chunk_steps(std::ptrdiff_t steps, std::ptrdiff_t batch) {
    return steps <= 1 ? 1 : std::min(steps, projection_steps(batch));
}

void PackedCell::reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, SharedSpace& shared) const {
    grow(shared.projections, chunk_steps(steps, batch) * batch * projection_floats_);
    if (geometry_.kind == CellKind::kGruResetBefore) grow(shared.cell, batch * 2 * padded_hidden_);
    if (geometry_.proj_size > 0) grow(shared.cell, batch * padded_hidden_);
}

void PackedCell::reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, ThreadSpace& own) const {
    const std::ptrdiff_t rows = chunk_steps(steps, batch) * batch;
    grow(own.linear_rows, rows);
    grow(own.cell_rows, batch);
    grow(own.previous_h, batch);
    grow(own.lengths, batch);
    if (type_ == WeightType::int8) {
        const std::ptrdiff_t widest = std::max(geometry_.hidden_size, geometry_.output_size());
        grow(own.quantise_rows, rows);
        grow(own.quantised_x, rows * QuantisedInput::bytes(input_size_) / kQuantisedUnit);
        grow(own.quantised_h, batch * QuantisedInput::bytes(widest) / kQuantisedUnit);
    }
}

template <class Row>
void PackedCell::set_inputs(Row* rows, std::ptrdiff_t num_rows, std::ptrdiff_t size, InputScale scale, float* quantised,
                            ThreadSpace& own) const {
    if (type_ != WeightType::int8) return;
    const std::ptrdiff_t stride = QuantisedInput::bytes(size) / kQuantisedUnit;
    for (std::ptrdiff_t r = 0; r < num_rows; ++r) {
        auto* q = reinterpret_cast<QuantisedInput*>(quantised + r * stride);
        own.quantise_rows[static_cast<std::size_t>(r)] = {static_cast<const float*>(rows[r].input), q};
        rows[r].input = q;
    }
    table_->quantise(own.quantise_rows.data(), num_rows, size, scale);
}

template <class Row>
void PackedCell::multiply(const MatrixKernel<Row>& kernel, const PackedMatrix& matrix, const Row* rows,
                          std::ptrdiff_t num_rows, const CellWorker& worker) const {
    kernel.run(matrix, rows, num_rows, blocks_of(matrix, worker));
}

InputScale PackedCell::state_scale() const {
    const bool bounded = geometry_.proj_size == 0 && geometry_.kind != CellKind::kRnnRelu;
    return {bounded ? InputScale::kBounded : InputScale::kLargest};
}

bool PackedCell::can_walk_both(const CellRun& run, const TeamPart& part) const {
    if (run.steps != 1 || run.batch == 0 || geometry_.kind == CellKind::kGruResetBefore) return false;
    if (memory_.size() < kFitsNearCaches) return false;
    // y may be x, of which W needs all before R gives the first of y.
    const auto address = [](const float* p) { return reinterpret_cast<std::uintptr_t>(p); };
    const std::ptrdiff_t last = run.batch - 1;
    if (address(run.x.row(0, 0)) < address(run.y.row(0, last) + geometry_.output_size()) &&
        address(run.y.row(0, 0)) < address(run.x.row(0, last) + input_size_)) {
        return false;
    }
    // Threads may not wait for one another in between, so each one's blocks of W must be those that it needs.
    const MatrixKernel<CellRow>& recurrent = recurrent_kernel();
    return part.count == 1 || recurrent.panels_per_block * recurrent.gates == kernels_->linear.panels_per_block;
}

void PackedCell::walk_both(std::ptrdiff_t num_rows, const CellWorker& worker) const {
    const MatrixKernel<LinearRow>& linear = kernels_->linear;
    const MatrixKernel<CellRow>& recurrent = recurrent_kernel();
    const bool backward = worker.own.backward;
    const BlockRange blocks = blocks_of(recurrent_, worker);
    // Vectors of the projection that a block of R uses are the panels of W.
    const std::ptrdiff_t vectors = std::ptrdiff_t{recurrent.panels_per_block} * recurrent.gates;
    const auto input_blocks_before = [&](std::ptrdiff_t block, std::ptrdiff_t rounding) {
        if (vectors == linear.panels_per_block) return block;    // one for one; the division is for the GRU
        return (std::min(block * vectors, input_.panels) + rounding) / linear.panels_per_block;
    };
    std::ptrdiff_t done =
        backward ? input_blocks_before(blocks.last, linear.panels_per_block - 1) : input_blocks_before(blocks.first, 0);
    for (std::ptrdiff_t i = blocks.first; i < blocks.last; ++i) {
        const std::ptrdiff_t block = backward ? blocks.last - 1 - (i - blocks.first) : i;
        const std::ptrdiff_t next =
            backward ? input_blocks_before(block, 0) : input_blocks_before(block + 1, linear.panels_per_block - 1);
        linear.run(input_, worker.own.linear_rows.data(), num_rows,
                   {std::min(done, next), std::max(done, next), backward});
        done = next;
        recurrent.run(recurrent_, worker.own.cell_rows.data(), num_rows, {block, block + 1, backward});
    }
}

void PackedCell::run(const CellRun& run, const CellWorker& worker) const {
    ThreadSpace& own = worker.own;
    const std::ptrdiff_t output_size = geometry_.output_size();
    for (std::ptrdiff_t b = 0; b < run.batch; ++b) own.previous_h[b] = run.h_0 + b * output_size;

    const bool both = can_walk_both(run, worker.part);
    Chunk chunk{0, chunk_steps(run.steps, run.batch)};
    for (; chunk.first < run.steps; chunk.first += chunk.steps) {
        chunk.steps = std::min(chunk.steps, run.steps - chunk.first);
        const std::ptrdiff_t num_inputs = gather_inputs(run, chunk, worker);
        if (!both) {
            multiply(kernels_->linear, input_, own.linear_rows.data(), num_inputs, worker);
            worker.part.wait();
        }
        for (std::ptrdiff_t step = chunk.first; step < chunk.first + chunk.steps; ++step) {
            const std::ptrdiff_t num_rows = gather_step(run, chunk, step, worker);
            if (both) {
                walk_both(num_rows, worker);
            } else {
                multiply(recurrent_kernel(), recurrent_, own.cell_rows.data(), num_rows, worker);
            }
            finish_step(run, step, num_rows, worker);
            worker.part.wait();
            own.backward = !own.backward;
        }
    }

    const std::size_t output_bytes = static_cast<std::size_t>(output_size) * sizeof(float);
    for (std::ptrdiff_t b = worker.part.index; b < run.batch; b += worker.part.count) {
        float* h_n = run.h_n + b * output_size;
        if (own.previous_h[b] != h_n) std::memcpy(h_n, own.previous_h[b], output_bytes);
        for (std::ptrdiff_t t = length_of(run, b); t < run.steps; ++t) std::memset(run.y.row(t, b), 0, output_bytes);
    }
    worker.part.wait();
}

std::ptrdiff_t PackedCell::gather_inputs(const CellRun& run, const Chunk& chunk, const CellWorker& worker) const {
    LinearRow* const rows = worker.own.linear_rows.data();
    LinearRow* row = rows;
    float* projection = worker.shared.projections.data();
    for (std::ptrdiff_t s = 0; s < chunk.steps; ++s) {
        for (std::ptrdiff_t b = 0; b < run.batch; ++b, projection += projection_floats_) {
            if (chunk.first + s >= length_of(run, b)) continue;
            *row++ = {run.x.row(time_of(run, b, chunk.first + s), b), projection};
        }
    }
    set_inputs(rows, row - rows, input_size_, input_scale_, worker.own.quantised_x.data(), worker.own);
    return row - rows;
}

std::ptrdiff_t PackedCell::gather_step(const CellRun& run, const Chunk& chunk, std::ptrdiff_t step,
                                       const CellWorker& worker) const {
    const float* projections = worker.shared.projections.data() + (step - chunk.first) * run.batch * projection_floats_;
    CellRow* const rows = worker.own.cell_rows.data();
    CellRow* row = rows;
    for (std::ptrdiff_t b = 0; b < run.batch; ++b) {
        if (step >= length_of(run, b)) continue;
        float* y = run.y.row(time_of(run, b, step), b);
        // Written member by member, as the kernel reads them: a copy of the whole would have to wait for its parts.
        CellRow& cell = *row++;
        cell.projection = projections + b * projection_floats_;
        cell.h = worker.own.previous_h[b];
        cell.input = cell.h;
        cell.h_next = y;
        if (run.c != nullptr) cell.c = run.c + b * geometry_.hidden_size;
        if (geometry_.kind == CellKind::kGruResetBefore) {
            cell.update = worker.shared.cell.data() + b * 2 * padded_hidden_;
            cell.reset_h = cell.update + padded_hidden_;
        }
        if (geometry_.proj_size > 0) cell.h_next = worker.shared.cell.data() + b * padded_hidden_;
        worker.own.previous_h[b] = y;
    }
    set_inputs(rows, row - rows, geometry_.output_size(), state_scale(), worker.own.quantised_h.data(), worker.own);
    return row - rows;
}

void PackedCell::finish_step(const CellRun& run, std::ptrdiff_t step, std::ptrdiff_t num_rows,
                             const CellWorker& worker) const {
    ThreadSpace& own = worker.own;
    const auto quantise = [&](auto* rows) {
        set_inputs(rows, num_rows, geometry_.hidden_size, {InputScale::kBounded}, own.quantised_h.data(), own);
    };
    if (geometry_.kind == CellKind::kGruResetBefore) {
        worker.part.wait();
        CellRow* const rows = own.cell_rows.data();
        for (std::ptrdiff_t r = 0; r < num_rows; ++r) rows[r].input = rows[r].reset_h;
        quantise(rows);
        multiply(kernels_->gru_reset_before_candidate, candidate_, rows, num_rows, worker);
    }
    if (geometry_.proj_size > 0) {
        worker.part.wait();
        LinearRow* const rows = own.linear_rows.data();
        LinearRow* row = rows;
        for (std::ptrdiff_t b = 0; b < run.batch; ++b) {
            if (step >= length_of(run, b)) continue;
            *row++ = {worker.shared.cell.data() + b * padded_hidden_, run.y.row(time_of(run, b, step), b)};
        }
        quantise(rows);
        multiply(kernels_->linear, output_, rows, num_rows, worker);
    }
}

const MatrixKernel<CellRow>& PackedCell::recurrent_kernel() const {
    switch (geometry_.kind) {
        case CellKind::kRnnTanh: return kernels_->rnn_tanh;
        case CellKind::kRnnRelu: return kernels_->rnn_relu;
        case CellKind::kLstm: return kernels_->lstm;
        case CellKind::kGruResetAfter: return kernels_->gru_reset_after;
        case CellKind::kGruResetBefore: break;
    }
    return kernels_->gru_reset_before_gates;
}

double PackedCell::step_operations() const {
    double operations = 0;
    const auto add = [&](const PackedMatrix& matrix, int gates) {
        operations += static_cast<double>(matrix.panels * table_->lanes) * gates * static_cast<double>(matrix.depth);
    };
    add(input_, 1);
    add(recurrent_, recurrent_kernel().gates);
    add(candidate_, 1);
    add(output_, 1);
    return operations;
}

MatrixView UnpackedMatrix::view() const {
    return {values.empty() ? nullptr : values.data(), scales.empty() ? nullptr : scales.data()};
}

void UnpackedMatrix::dequantise() {
    if (scales.empty()) return;
    const std::size_t depth = values.size() / scales.size();
    for (std::size_t i = 0; i < values.size(); ++i) values[i] *= scales[i / depth];
    scales.clear();
}

CellWeights UnpackedCell::view() const {
    return {weight_ih.view(), weight_hh.view(), bias_ih.data(), bias_hh.data(), weight_hr.view()};
}

UnpackedCell PackedCell::unpack() const {
    const std::ptrdiff_t hidden = geometry_.hidden_size;
    const std::ptrdiff_t lanes = table_->lanes;
    const std::ptrdiff_t rows = gates_of(geometry_.kind) * hidden;
    UnpackedCell cell;
    const auto resize = [this](UnpackedMatrix& matrix, std::ptrdiff_t matrix_rows, std::ptrdiff_t depth) {
        matrix.values.resize(static_cast<std::size_t>(matrix_rows * depth));
        if (type_ == WeightType::int8) matrix.scales.resize(static_cast<std::size_t>(matrix_rows));
    };
    resize(cell.weight_ih, rows, input_size_);
    resize(cell.weight_hh, rows, geometry_.output_size());
    if (geometry_.proj_size > 0) resize(cell.weight_hr, geometry_.proj_size, hidden);
    cell.bias_ih.resize(static_cast<std::size_t>(rows));
    cell.bias_hh.resize(static_cast<std::size_t>(rows));

    // Panel order back to rows of PyTorch's layout, leaving out the padding of the last panel.
    const auto read = [lanes](const PackedMatrix& matrix, const PanelShape& shape, int gates, int first_gate,
                              std::ptrdiff_t units, UnpackedMatrix& destination, std::vector<float>* bias) {
        const UnpackedRows source = fusedcell::unpack(shape, matrix);
        for (std::size_t r = 0; r < source.initial.size(); ++r) {
            const auto index = static_cast<std::ptrdiff_t>(r);
            const std::ptrdiff_t unit = index / (gates * lanes) * lanes + index % lanes;
            const std::ptrdiff_t row = (first_gate + index / lanes % gates) * units + unit;
            if (unit >= units) continue;
            std::copy_n(source.weights.begin() + index * matrix.depth, matrix.depth,
                        destination.values.begin() + row * matrix.depth);
            if (!source.scales.empty()) destination.scales[static_cast<std::size_t>(row)] = source.scales[r];
            if (bias != nullptr) (*bias)[static_cast<std::size_t>(row)] = source.initial[r];
        }
    };
    const MatrixKernel<CellRow>& recurrent = recurrent_kernel();
    read(input_, shape_of(kernels_->linear), gates_of(geometry_.kind), 0, hidden, cell.weight_ih, &cell.bias_ih);
    read(recurrent_, shape_of(recurrent), recurrent.gates, 0, hidden, cell.weight_hh, &cell.bias_hh);
    if (geometry_.kind == CellKind::kGruResetBefore) {
        read(candidate_, shape_of(kernels_->gru_reset_before_candidate), 1, kGateN, hidden, cell.weight_hh, nullptr);
    }
    if (geometry_.proj_size > 0) {
        read(output_, shape_of(kernels_->linear), 1, 0, geometry_.proj_size, cell.weight_hr, nullptr);
    }
    return cell;
}

}    // namespace fusedcell
