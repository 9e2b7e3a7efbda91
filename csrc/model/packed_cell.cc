#include "model/packed_cell.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

namespace fusedcell {
namespace {

// Rows of the input projection computed at a time: enough that streaming W once for all of them costs little, few
// enough that they are still in cache when the recurrence reads them.
constexpr std::ptrdiff_t kProjectionRows = 128;

// The blocks of a matrix that are this worker's.
BlockRange blocks_of(const PackedLinear& matrix, const CellWorker& worker) {
    const TeamPart& part = worker.part;
    const std::ptrdiff_t blocks = matrix.blocks();
    if (part.count == 1) return {0, blocks, worker.own.backward};
    return {share_of(blocks, part.index, part.count), share_of(blocks, part.index + 1, part.count),
            worker.own.backward};
}

// Vectors of the projection that a block of R uses.
std::ptrdiff_t vectors_of_block(const PanelShape& shape) {
    return std::ptrdiff_t{shape.panels_per_block} * shape.gates;
}

std::ptrdiff_t length_of(const CellRun& run, std::ptrdiff_t row) {
    return run.lengths == nullptr ? run.steps : static_cast<std::ptrdiff_t>(run.lengths[row]);
}

std::ptrdiff_t time_of(const CellRun& run, std::ptrdiff_t row, std::ptrdiff_t step) {
    return run.reverse ? length_of(run, row) - 1 - step : step;
}

bool is_masked(const CellRun& run, std::ptrdiff_t time, std::ptrdiff_t row) {
    return run.mask.data != nullptr && !*run.mask.row(time, row);
}

std::ptrdiff_t row_at(const CellRun& run, std::ptrdiff_t place) {
    return run.order == nullptr ? place : run.order[place];
}

// Whether every row has every step, and no mask leaves one out.
bool has_all_steps(const CellRun& run) { return run.lengths == nullptr && run.mask.data == nullptr; }

// How many rows have a step, of the first `rows` in the run's order, which had those before.
std::ptrdiff_t rows_left(const CellRun& run, std::ptrdiff_t step, std::ptrdiff_t rows) {
    if (run.lengths == nullptr) return rows;
    while (rows > 0 && run.lengths[row_at(run, rows - 1)] <= step) --rows;
    return rows;
}

}    // namespace

std::ptrdiff_t PackedCell::projection_steps(std::ptrdiff_t batch) {
    return batch < kProjectionRows ? (kProjectionRows + batch - 1) / std::max<std::ptrdiff_t>(batch, 1) : 1;
}

std::ptrdiff_t PackedCell::chunk_steps(std::ptrdiff_t steps, std::ptrdiff_t batch) {
    return steps <= 1 ? 1 : std::min(steps, projection_steps(batch));
}

std::ptrdiff_t PackedCell::most_rows_of_chunk(std::ptrdiff_t steps, std::ptrdiff_t batch) {
    if (steps <= 1) return batch;
    // Of a larger batch, too, there may be so few rows left that they take several steps at a time.
    const std::ptrdiff_t few = std::min(batch, kProjectionRows - 1);
    return std::max(batch, std::min(std::min(steps, kProjectionRows) * few, few + kProjectionRows - 1));
}

void PackedCell::reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, SharedSpace& shared) const {
    grow(shared.projections, most_rows_of_chunk(steps, batch), projection_floats_);
    if (kind_ == CellKind::kGruResetBefore) grow(shared.cell, batch, 2, padded_hidden_);
    if (has_sums_) grow(shared.sums, batch, recurrent_gates(), padded_hidden_);
    if (geometry_.proj_size > 0) grow(shared.cell, batch, padded_hidden_);
}

void PackedCell::reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, ThreadSpace& own) const {
    const std::ptrdiff_t rows = most_rows_of_chunk(steps, batch);
    grow(own.linear_rows, rows);
    grow(own.cell_rows, batch);
    if (has_sums_) grow(own.recurrent_rows, batch);
    grow(own.previous_h, batch);
    grow(own.lengths, batch);
    input_.reserve(rows, own.x);
    recurrent_.reserve(batch, own.h);
    output_.reserve(batch, own.h);
}

std::ptrdiff_t PackedCell::folded_floats(std::ptrdiff_t entries) const {
    return product_of(sum_of(entries, 1), projection_floats_);
}

void PackedCell::fold_inputs(const float* table, std::ptrdiff_t entries) {
    std::vector<float> folded(count_of<float>(folded_floats(entries)), std::numeric_limits<float>::quiet_NaN());
    InputSpace space;
    input_.reserve(1, space);
    for (std::ptrdiff_t i = 0; i < entries; ++i) {
        const float* const x = table + i * input_size_;
        const LinearRow row{input_.input(x, input_scale_, space), folded.data() + i * projection_floats_};
        input_.run(&WeightKernels::linear, &row, 1, {0, input_.blocks(), false});
    }
    folded_ = std::move(folded);
    step_kernel_ = nullptr;
    input_.keep_zeros();
    input_size_ = 1;
}

const float* PackedCell::folded_projection(const float* token) const {
    const std::ptrdiff_t entries = static_cast<std::ptrdiff_t>(folded_.size()) / projection_floats_ - 1;
    const bool is_known = *token >= 0.0F && *token < static_cast<float>(entries);
    return folded_.data() + (is_known ? static_cast<std::ptrdiff_t>(*token) : entries) * projection_floats_;
}

void PackedCell::multiply_recurrent(const PackedLinear& matrix, CellKernel kernel, std::ptrdiff_t num_rows,
                                    const BlockRange& blocks, ThreadSpace& own) const {
    if (has_sums_) {
        matrix.run(&WeightKernels::linear, own.recurrent_rows.data(), num_rows, blocks);
    } else {
        matrix.run(kernel, own.cell_rows.data(), num_rows, blocks);
    }
}

bool PackedCell::can_walk_both(const CellRun& run, const TeamPart& part) const {
    if (run.steps != 1 || run.batch == 0 || !wants_to_walk_both()) return false;
    const std::ptrdiff_t last = run.batch - 1;
    if (!are_apart(run.x.row(0, 0), last * run.x.row_stride + input_size_, run.y.row(0, 0),
                   last * run.y.row_stride + geometry_.output_size())) {
        return false;
    }
    // Threads may not wait for one another in between, so each one's blocks of W must be those that it needs.
    return part.count == 1 || vectors_of_block(recurrent_.shape()) == input_.shape().panels_per_block;
}

void PackedCell::walk_both(std::ptrdiff_t num_rows, const CellWorker& worker) const {
    const std::ptrdiff_t input_panels = input_.shape().panels_per_block;
    const bool backward = worker.own.backward;
    const BlockRange blocks = blocks_of(recurrent_, worker);
    // They are the panels of W.
    const std::ptrdiff_t vectors = vectors_of_block(recurrent_.shape());
    const auto input_blocks_before = [&](std::ptrdiff_t block, std::ptrdiff_t rounding) {
        if (vectors == input_panels) return block;    // one for one; the division is for types that differ
        return (std::min(block * vectors, input_.panels()) + rounding) / input_panels;
    };
    std::ptrdiff_t done =
        backward ? input_blocks_before(blocks.last, input_panels - 1) : input_blocks_before(blocks.first, 0);
    for (std::ptrdiff_t i = blocks.first; i < blocks.last; ++i) {
        const std::ptrdiff_t block = backward ? blocks.last - 1 - (i - blocks.first) : i;
        const std::ptrdiff_t next =
            backward ? input_blocks_before(block, 0) : input_blocks_before(block + 1, input_panels - 1);
        input_.run(&WeightKernels::linear, worker.own.linear_rows.data(), num_rows,
                   {std::min(done, next), std::max(done, next), backward});
        done = next;
        multiply_recurrent(recurrent_, recurrent_kernel_, num_rows, {block, block + 1, backward}, worker.own);
    }
}

bool PackedCell::run(const CellRun& run, const CellWorker& worker) const {
    ThreadSpace& own = worker.own;
    const std::ptrdiff_t output_size = geometry_.output_size();
    for (std::ptrdiff_t b = 0; b < run.batch; ++b) own.previous_h[b] = run.states.first_h(b, output_size);
    if (run.trace) grow(own.traces, run.batch);

    // A row of a chunk that has more is one of a tile, which reads W once for all of them.
    const bool has_zeros = run.steps == 1 && run.batch == 1 && input_.has_zeros(run.x.row(0, 0), own.x);
    const bool both = !has_zeros && can_walk_both(run, worker.part);
    const bool one_row = can_run_row(run, worker.part);
    const double row_operations = worker.part.checkpoint != nullptr ? step_operations().sum() : 0;
    Chunk chunk{0, 0, run.batch};
    for (; chunk.first < run.steps; chunk.first += chunk.steps) {
        chunk.rows = rows_left(run, chunk.first, chunk.rows);
        if (chunk.rows == 0) break;
        chunk.steps = chunk_steps(run.steps - chunk.first, chunk.rows);
        const std::ptrdiff_t num_inputs = gather_inputs(run, chunk, worker);
        if (!folded_.empty()) {
            for (std::ptrdiff_t r = worker.part.index; r < num_inputs; r += worker.part.count) {
                const LinearRow& row = own.linear_rows[static_cast<std::size_t>(r)];
                std::copy_n(folded_projection(static_cast<const float*>(row.input)), projection_floats_, row.y);
            }
            if (!worker.part.wait()) return false;
        } else if (!both) {
            if (has_zeros) own.linear_rows.front().input = &own.x.nonzero;
            input_.run(input_kernel(has_zeros), own.linear_rows.data(), num_inputs, blocks_of(input_, worker));
            if (!worker.part.wait()) return false;
        }
        if (one_row && chunk.rows == 1) {
            chunk.steps = num_inputs;    // without those past its end
            if (!run_row(run, chunk, row_operations, worker)) return false;
            continue;
        }
        const float* projections = worker.shared.projections.data();
        std::ptrdiff_t rows = chunk.rows;
        for (std::ptrdiff_t step = chunk.first; step < chunk.first + chunk.steps; ++step) {
            rows = rows_left(run, step, rows);
            if (rows == 0) break;
            const std::ptrdiff_t num_rows = gather_step(run, step, rows, projections, worker);
            projections += rows * projection_floats_;
            if (both) {
                walk_both(num_rows, worker);
            } else {
                multiply_recurrent(recurrent_, recurrent_kernel_, num_rows, blocks_of(recurrent_, worker), own);
            }
            if (!finish_step(run, step, rows, num_rows, worker)) return false;
            if (!worker.part.pass(row_operations * static_cast<double>(rows)) || !worker.part.wait()) return false;
            own.backward = !own.backward;
        }
    }

    const std::size_t output_bytes = static_cast<std::size_t>(output_size) * sizeof(float);
    for (std::ptrdiff_t b = worker.part.index; b < run.batch; b += worker.part.count) {
        float* h_n = run.states.last_h(b, output_size);
        if (own.previous_h[b] != h_n) std::memcpy(h_n, own.previous_h[b], output_bytes);
        if (run.y.offsets != nullptr) continue;    // packed, without room past an end
        for (std::ptrdiff_t t = length_of(run, b); t < run.steps; ++t) std::memset(run.y.row(t, b), 0, output_bytes);
    }
    return worker.part.wait();
}

std::ptrdiff_t PackedCell::gather_inputs(const CellRun& run, const Chunk& chunk, const CellWorker& worker) const {
    LinearRow* const rows = worker.own.linear_rows.data();
    LinearRow* row = rows;
    float* projection = worker.shared.projections.data();
    if (has_all_steps(run)) {
        for (std::ptrdiff_t step = chunk.first; step < chunk.first + chunk.steps; ++step) {
            const float* x = run.x.row(run.reverse ? run.steps - 1 - step : step, 0);
            for (std::ptrdiff_t b = 0; b < chunk.rows; ++b, projection += projection_floats_, x += run.x.row_stride) {
                *row++ = {x, projection};
            }
        }
    } else {
        std::ptrdiff_t left = chunk.rows;
        for (std::ptrdiff_t step = chunk.first; step < chunk.first + chunk.steps; ++step) {
            left = rows_left(run, step, left);
            for (std::ptrdiff_t place = 0; place < left; ++place, projection += projection_floats_) {
                const std::ptrdiff_t b = row_at(run, place);
                const std::ptrdiff_t time = time_of(run, b, step);
                if (!is_masked(run, time, b)) *row++ = {run.x.row(time, b), projection};
            }
        }
    }
    if (folded_.empty()) input_.set_inputs(rows, row - rows, input_scale_, worker.own.x);
    return row - rows;
}

std::ptrdiff_t PackedCell::gather_step(const CellRun& run, std::ptrdiff_t step, std::ptrdiff_t rows_of_step,
                                       const float* projections, const CellWorker& worker) const {
    CellRow* const rows = worker.own.cell_rows.data();
    CellRow* row = rows;
    const bool all_steps = has_all_steps(run);
    std::ptrdiff_t time = run.reverse ? run.steps - 1 - step : step;
    for (std::ptrdiff_t place = 0; place < rows_of_step; ++place, projections += projection_floats_) {
        std::ptrdiff_t b = place;
        if (!all_steps) {
            b = row_at(run, place);
            time = time_of(run, b, step);
            if (is_masked(run, time, b)) {
                if (b % worker.part.count == worker.part.index) hold(run, time, b, worker.own.previous_h[b]);
                continue;
            }
        }
        float* y = run.y.row(time, b);
        // Written member by member, as the kernel reads them: a copy of the whole would have to wait for its parts.
        CellRow& cell = *row++;
        cell.projection = projections;
        cell.h = worker.own.previous_h[b];
        cell.input = cell.h;
        cell.h_next = y;
        cell.c = run.states.c_of(b, geometry_.hidden_size);
        if (kind_ == CellKind::kGruResetBefore) {
            make_room(cell, worker.shared.cell.data() + b * 2 * padded_hidden_);
        }
        if (geometry_.proj_size > 0) cell.h_next = worker.shared.cell.data() + b * padded_hidden_;
        cell.trace = nullptr;
        if (run.trace) {
            StepTrace& trace = worker.own.traces[static_cast<std::size_t>(b)];
            trace = trace_of(run, time, b);
            cell.trace = &trace;
        }
        worker.own.previous_h[b] = y;
    }
    recurrent_.set_inputs(rows, row - rows, state_scale(), worker.own.h);
    if (has_sums_) gather_recurrent(recurrent_gates(), row - rows, worker);
    return row - rows;
}

StepTrace PackedCell::trace_of(const CellRun& run, std::ptrdiff_t time, std::ptrdiff_t row) const {
    const std::ptrdiff_t rows = time * run.trace.step_stride + row * run.trace.row_stride;
    const TraceView trace = run.trace.after(rows, geometry_.hidden_size, gates_of(kind_));
    return {trace.cells, trace.gates, geometry_.hidden_size};
}

void PackedCell::hold(const CellRun& run, std::ptrdiff_t time, std::ptrdiff_t row, const float* h) const {
    std::copy_n(h, geometry_.output_size(), run.y.row(time, row));
    float* c = trace_of(run, time, row).c;
    if (c != nullptr) std::copy_n(run.states.c_of(row, geometry_.hidden_size), geometry_.hidden_size, c);
}

void PackedCell::gather_recurrent(int gates, std::ptrdiff_t num_rows, const CellWorker& worker) const {
    const std::ptrdiff_t stride = gates * padded_hidden_;
    for (std::ptrdiff_t r = 0; r < num_rows; ++r) {
        const auto index = static_cast<std::size_t>(r);
        worker.own.recurrent_rows[index] = {worker.own.cell_rows[index].input, worker.shared.sums.data() + r * stride};
    }
}

bool PackedCell::finish_gates(GateKernel kernel, int gates, std::ptrdiff_t num_rows, const CellWorker& worker) const {
    if (!worker.part.wait()) return false;    // blocks of the product are not whole panels of gates
    const std::ptrdiff_t panels = padded_hidden_ / table_->lanes;
    const TeamPart& part = worker.part;
    kernel(worker.own.cell_rows.data(), num_rows,
           {worker.shared.sums.data(), gates * padded_hidden_, share_of(panels, part.index, part.count),
            share_of(panels, part.index + 1, part.count), geometry_.hidden_size},
           options_);
    return true;
}

bool PackedCell::finish_step(const CellRun& run, std::ptrdiff_t step, std::ptrdiff_t rows_of_step,
                             std::ptrdiff_t num_rows, const CellWorker& worker) const {
    ThreadSpace& own = worker.own;
    if (has_sums_ && !finish_gates(gate_kernel(), recurrent_gates(), num_rows, worker)) return false;
    if (kind_ == CellKind::kGruResetBefore) {
        if (!worker.part.wait()) return false;
        CellRow* const rows = own.cell_rows.data();
        for (std::ptrdiff_t r = 0; r < num_rows; ++r) rows[r].input = rows[r].reset_h;
        candidate_.set_inputs(rows, num_rows, output_scale(), own.h);
        if (has_sums_) gather_recurrent(1, num_rows, worker);
        multiply_recurrent(candidate_, kCandidateKernel, num_rows, blocks_of(candidate_, worker), own);
        if (has_sums_ && !finish_gates(candidate_gate_kernel(), 1, num_rows, worker)) return false;
    }
    if (geometry_.proj_size > 0) {
        if (!worker.part.wait()) return false;
        LinearRow* const rows = own.linear_rows.data();
        LinearRow* row = rows;
        for (std::ptrdiff_t place = 0; place < rows_of_step; ++place) {
            const std::ptrdiff_t b = row_at(run, place);
            const std::ptrdiff_t time = time_of(run, b, step);
            if (is_masked(run, time, b)) continue;
            *row++ = {worker.shared.cell.data() + b * padded_hidden_, run.y.row(time, b)};
        }
        output_.set_inputs(rows, num_rows, output_scale(), own.h);
        output_.run(&WeightKernels::linear, rows, num_rows, blocks_of(output_, worker));
    }
    return true;
}

GateKernel PackedCell::gate_kernel() const {
    switch (kind_) {
        case CellKind::kRnnTanh:
        case CellKind::kRnnRelu: return table_->general_rnn;
        case CellKind::kLstm: return general_ ? table_->general_lstm : table_->summed_lstm;
        case CellKind::kGruResetAfter:
            return general_ ? table_->general_gru_reset_after : table_->summed_gru_reset_after;
        case CellKind::kGruResetBefore: break;
    }
    return general_ ? table_->general_gru_reset_before_gates : table_->summed_gru_reset_before_gates;
}

GateKernel PackedCell::candidate_gate_kernel() const {
    return general_ ? table_->general_gru_reset_before_candidate : table_->summed_gru_reset_before_candidate;
}

int PackedCell::passes() const {
    const int products = kind_ == CellKind::kGruResetBefore || geometry_.proj_size > 0 ? 2 : 1;
    const int gates = kind_ == CellKind::kGruResetBefore ? 2 : 1;
    return products + (has_sums_ ? gates : 0);
}

Operations PackedCell::step_operations() const {
    Operations operations;
    for (const PackedLinear* matrix : matrices()) {
        if (matrix == &input_ && !folded_.empty()) continue;
        (is_quantised(matrix->type()) ? operations.int8 : operations.floats) += matrix->operations();
    }
    return operations;
}

}    // namespace fusedcell
