#include "model/training.h"

#include <algorithm>
#include <optional>

#include "model/training_steps.h"

namespace fusedcell {
namespace {

class BackwardRunner : TrainingRunner {
public:
    BackwardRunner(const TrainingRun& run, const TrainingGradients& gradients, const KernelTable& table,
                   TrainingSpace& space)
        : TrainingRunner(run, table, space),
          gradients_(gradients),
          segment_(steps_for(kSegmentRows, run.batch)),
          segment_rows_(product_of(std::min(segment_, run.steps), run.batch)),
          d_floats_(padded_to(kLineFloats, (is_gru(run.kind) ? 4 : gates_) * run.units + kOuterOverrun) + kLineFloats),
          dy_floats_(padded_to(kLineFloats, sum_of(run.outputs, kOuterOverrun))),
          recurrent_first_(is_gru(run.kind) ? run.units : 0) {
        const std::ptrdiff_t depth = gates_ * run.units;
        recurrent_ = matrix(1, run.outputs, depth, run.outputs);
        if (gradients.x.data != nullptr) input_ = matrix(1, run.inputs, depth, run.inputs);
        if (run.weight_hr != nullptr) projection_ = matrix(1, run.units, run.outputs, run.units);
        grow(space.packed_back,
             sum_of(sum_of(to_size(input_.nbytes()), to_size(recurrent_.nbytes())), to_size(projection_.nbytes())));
        unsigned char* next =
            recurrent_.pack(StridedMatrix{run.weight_hh, 1, run.outputs}, nullptr, space.packed_back.data());
        if (projection_) next = projection_.pack(StridedMatrix{run.weight_hr, 1, run.units}, nullptr, next);
        if (input_) {
            // d of the GRU begins with the last third of W's rows.
            const std::ptrdiff_t rotation = is_gru(run.kind) ? run.units : 0;
            input_.pack(StridedMatrix{run.weight_ih, 1, run.inputs, rotation}, nullptr, next);
        }
        grow(space.d, product_of(segment_rows_, d_floats_, sizeof(float)));
        grow(space.dh, run.batch, run.outputs);
        grow(space.dc, run.batch, run.units);
        if (projection_ || zones()) grow(space.dh_of_cell, run.batch, run.units);
        if (projection_) grow(space.dy, segment_rows_, dy_floats_);
        if (zones()) grow(space.held, run.batch, 2, run.units);
        if (drops()) grow(space.dropped, segment_rows_, run.outputs);
        reserve_h_factors();
        const bool has_gates = !saves_gates(run.kind) || run.gates != nullptr;
        if (has_gates && (raw_ == RawState::none || run.raw != nullptr)) return;
        steps_.emplace(run, table, space);
        grow(space.gates, segment_rows_, gate_floats_);
        if (raw_ != RawState::none) grow(space.raw, segment_rows_, run.units);
    }

    void run(int num_threads, Checkpoint* checkpoint) {
        const auto reserve = [&](TrainingSpace::Worker& worker, std::ptrdiff_t rows) {
            const std::ptrdiff_t steps = std::min(segment_, run_.steps);
            grow(worker.linear_rows, steps, rows);
            grow(worker.rows, rows);
            grow(worker.states, run_.units);
            grow(worker.outer_rows, segment_rows_);
            const std::ptrdiff_t inputs = std::max(sum_of(run_.inputs, run_.outputs), run_.units);
            grow(worker.outer, OuterShape::scratch(segment_rows_, inputs));
            if (steps_) steps_->reserve(worker, rows);
        };
        share_rows(run_.batch, num_threads, space_, checkpoint, reserve,
                   [&](const TeamPart& part, TrainingSpace::Worker& worker) {
                       const Rows batch(run_.batch, part);
                       start(batch);
                       zero_sums(part);
                       std::ptrdiff_t end = run_.steps;
                       while (end > 0) {
                           const std::ptrdiff_t first = std::max<std::ptrdiff_t>(end - segment_, 0);
                           if (!run_segment(first, end, batch, part, worker) || !part.wait()) return;
                           add_products(first, end, part, worker);
                           if (!part.pass(weight_operations(end - first) / part.count) || !part.wait()) return;
                           end = first;
                       }
                       finish(batch);
                   });
    }

private:
    float* dh_of(std::ptrdiff_t row) const { return space_.dh.data() + row * run_.outputs; }
    // Of the GRU, what comes past R.
    float* dc_of(std::ptrdiff_t row) const { return space_.dc.data() + row * run_.units; }
    float* dh_of_cell(std::ptrdiff_t row) const { return space_.dh_of_cell.data() + row * run_.units; }
    float* held_of(std::ptrdiff_t row) const { return space_.held.data() + 2 * row * run_.units; }
    float* d_of(std::ptrdiff_t step_of_segment, std::ptrdiff_t row) const {
        return reinterpret_cast<float*>(space_.d.data()) + index_of(step_of_segment, row) * d_floats_;
    }
    float* dy_of(std::ptrdiff_t step_of_segment, std::ptrdiff_t row) const {
        return space_.dy.data() + index_of(step_of_segment, row) * dy_floats_;
    }
    float* dropped_of(std::ptrdiff_t step_of_segment, std::ptrdiff_t row) const {
        return space_.dropped.data() + index_of(step_of_segment, row) * run_.outputs;
    }
    float* gates_of_step(std::ptrdiff_t first, std::ptrdiff_t step, std::ptrdiff_t row) const {
        if (!saves_gates(run_.kind)) return nullptr;
        return steps_ ? space_.gates.data() + index_of(step - first, row) * gate_floats_
                      : run_.gates + index_of(time_of(row, step), row) * gate_floats_;
    }
    float* raw_of_step(std::ptrdiff_t first, std::ptrdiff_t step, std::ptrdiff_t row) const {
        return steps_ ? space_.raw.data() + index_of(step - first, row) * run_.units
                      : run_.raw + index_of(time_of(row, step), row) * run_.units;
    }
    const float* dy_at(std::ptrdiff_t time, std::ptrdiff_t row) const {
        return gradients_.y.data == nullptr ? zeros() : gradients_.y.row(time, row);
    }
    bool zones() const { return run_.zoneout_h || run_.zoneout_c; }
    double weight_operations(std::ptrdiff_t steps) const {
        return static_cast<double>(gates_ * run_.units) * static_cast<double>(run_.inputs + run_.outputs) *
               static_cast<double>(steps * run_.batch);
    }

    void start(const Rows& batch) const {
        for (std::ptrdiff_t b = batch.first; b < batch.last; ++b) {
            std::copy_n(given(gradients_.h_n, b, run_.outputs), run_.outputs, dh_of(b));
            std::copy_n(given(gradients_.c_n, b, run_.units), run_.units, dc_of(b));
        }
        draw_h_factors(batch);
    }

    void finish(const Rows& batch) const {
        for (std::ptrdiff_t b = batch.first; b < batch.last; ++b) {
            if (gradients_.h_0 != nullptr) {
                float* const by_h = gradients_.h_0 + b * run_.outputs;
                std::copy_n(dh_of(b), run_.outputs, by_h);
                if (is_gru(run_.kind)) add(dc_of(b), by_h, run_.units);
            }
            if (gradients_.c_0 != nullptr) std::copy_n(dc_of(b), run_.units, gradients_.c_0 + b * run_.units);
        }
    }

    static void add(const float* values, float* total, std::ptrdiff_t size) {
        for (std::ptrdiff_t i = 0; i < size; ++i) total[i] += values[i];
    }

    // Parts the derivatives by a row's new states into those by what the cell computed and those by the states before.
    void part_at_zoneout(TrainingRow& row, std::ptrdiff_t time, std::ptrdiff_t b, float* taken) const {
        float* const held_h = held_of(b);
        float* const held_c = held_h + run_.units;
        if (run_.zoneout_h) {
            fill_taken(run_.zoneout_h, time, b, taken);
            float* const by_cell = dh_of_cell(b);
            std::copy_n(row.dh, run_.units, held_h);
            if (is_gru(run_.kind)) {
                add(row.dc, held_h, run_.units);
                std::fill_n(row.dc, run_.units, 0.0F);
            }
            for (std::ptrdiff_t j = 0; j < run_.units; ++j) {
                const float dh = row.dy[j] + held_h[j];
                by_cell[j] = taken[j] * dh;
                held_h[j] = (1 - taken[j]) * dh;
            }
            row.dy = by_cell;
            row.dh = zeros();
        }
        if (run_.zoneout_c) {
            fill_taken(run_.zoneout_c, time, b, taken);
            for (std::ptrdiff_t j = 0; j < run_.units; ++j) {
                held_c[j] = (1 - taken[j]) * row.dc[j];
                row.dc[j] *= taken[j];
            }
        }
    }

    // d of the steps [first, end), from the last one down, and x's derivatives.
    bool run_segment(std::ptrdiff_t first, std::ptrdiff_t end, const Rows& batch, const TeamPart& part,
                     TrainingSpace::Worker& worker) const {
        if (steps_) {
            const TrainingSteps::Again again{first, saves_gates(run_.kind) ? space_.gates.data() : nullptr,
                                             raw_ == RawState::none ? nullptr : space_.raw.data()};
            if (!steps_->run_steps(first, end, batch, part, worker, &again)) return false;
        }
        const double operations = static_cast<double>(gates_ * run_.units) *
                                  static_cast<double>((run_.outputs + (input_ ? run_.inputs : 0)) * batch.size());
        bool backward = false;
        LinearRow* const linear_rows = worker.linear_rows.data();
        for (std::ptrdiff_t step = end - 1; step >= first; --step) {
            TrainingRow* row = worker.rows.data();
            LinearRow* linear = linear_rows;
            for_rows(step, step + 1, batch, [&](std::ptrdiff_t, std::ptrdiff_t b) {
                const std::ptrdiff_t time = time_of(b, step);
                row->gates = gates_of_step(first, step, b);
                row->h = h_before(b, step);
                row->c = c_before(b, step);
                row->h_next = raw_ == RawState::h ? raw_of_step(first, step, b) : run_.y.row(time, b);
                row->c_next = raw_ == RawState::c ? raw_of_step(first, step, b) : c_after(index_of(time, b));
                row->dy = dy_at(time, b);
                row->dh = dh_of(b);
                row->dc = dc_of(b);
                row->d = d_of(step - first, b);
                if (drops()) drop(row->h, h_factors(b), dropped_of(step - first, b), run_.outputs);
                if (zones()) part_at_zoneout(*row, time, b, worker.states.data());
                if (projection_) {
                    float* const by_y = dy_of(step - first, b);
                    for (std::ptrdiff_t j = 0; j < run_.outputs; ++j) by_y[j] = row->dy[j] + row->dh[j];
                    row->dy = dh_of_cell(b);
                    row->dh = zeros();
                    *linear++ = {by_y, dh_of_cell(b)};
                }
                ++row;
            });
            if (projection_)
                projection_.run(kLinear, linear_rows, linear - linear_rows, {0, projection_.blocks(), false});
            kernels_.backward(worker.rows.data(), row - worker.rows.data(), run_.units);
            linear = linear_rows;
            for_rows(step, step + 1, batch, [&](std::ptrdiff_t, std::ptrdiff_t b) {
                if (!starts_anew(b, step)) *linear++ = {d_of(step - first, b) + recurrent_first_, dh_of(b)};
            });
            recurrent_.run(kLinear, linear_rows, linear - linear_rows, {0, recurrent_.blocks(), backward});
            backward = !backward;
            finish_step(step, batch);
            if (!part.pass(operations)) return false;
        }
        if (!input_) return true;
        LinearRow* linear = linear_rows;
        for_rows(first, end, batch, [&](std::ptrdiff_t step, std::ptrdiff_t b) {
            *linear++ = {d_of(step - first, b), gradients_.x.row(time_of(b, step), b)};
        });
        input_.run(kLinear, linear_rows, linear - linear_rows, {0, input_.blocks(), false, true});
        return true;
    }

    // Makes the derivatives by the states before a step of what has come back through R.
    void finish_step(std::ptrdiff_t step, const Rows& batch) const {
        if (drops() || zones()) {
            for_rows(step, step + 1, batch, [&](std::ptrdiff_t, std::ptrdiff_t b) {
                if (drops()) drop(dh_of(b), h_factors(b), dh_of(b), run_.outputs);
                if (run_.zoneout_h) add(held_of(b), dh_of(b), run_.units);
                if (run_.zoneout_c) add(held_of(b) + run_.units, dc_of(b), run_.units);
            });
        }
        for_held(step, batch,
                 [&](std::ptrdiff_t, std::ptrdiff_t b) { add(dy_at(time_of(b, step), b), dh_of(b), run_.outputs); });
        if (run_.resets == nullptr) return;
        const auto reset = [&](std::ptrdiff_t, std::ptrdiff_t b) {
            if (!starts_anew(b, step)) return;
            std::fill_n(dh_of(b), run_.outputs, 0.0F);
            std::fill_n(dc_of(b), run_.units, 0.0F);
        };
        for_rows(step, step + 1, batch, reset);
        for_held(step, batch, reset);
    }

    // The products that the derivatives of weights and biases add up: of the floats of d from `from` on by x and by
    // what R has been multiplied by, or of the derivatives by what a projection gave by what it has been multiplied by.
    struct Product {
        OuterKernel kernel;
        std::ptrdiff_t from;
        OuterShape shape;
        bool is_of_projection = false;
    };
    template <class Visit>
    void for_products(const Visit& visit) const {
        const std::ptrdiff_t units = run_.units;
        const auto of_gates = [&](OuterKernel kernel, float* by_x, std::ptrdiff_t inputs, float* by_h,
                                  std::ptrdiff_t outputs) {
            const auto of_rows = [&](std::ptrdiff_t from, std::ptrdiff_t rows, float* of_x, float* of_h) {
                if (of_x == nullptr && of_h == nullptr) return;
                const OuterShape shape{
                    0, rows, {of_x == nullptr ? 0 : inputs, of_h == nullptr ? 0 : outputs}, {of_x, of_h}};
                visit(Product{kernel, from, shape});
            };
            if (!is_gru(run_.kind)) return of_rows(0, gates_ * units, by_x, by_h);
            // d lies as n r z an.
            of_rows(units, 2 * units, by_x, by_h);
            of_rows(0, units, by_x == nullptr ? nullptr : by_x + 2 * units * inputs, nullptr);
            of_rows(3 * units, units, nullptr, by_h == nullptr ? nullptr : by_h + 2 * units * outputs);
        };
        of_gates(table_.outer, gradients_.weight_ih, run_.inputs, gradients_.weight_hh, run_.outputs);
        of_gates(table_.column_sums, gradients_.bias_ih, 1, gradients_.bias_hh, 1);
        if (gradients_.weight_hr != nullptr)
            visit(Product{table_.outer, 0, {0, run_.outputs, {units}, {gradients_.weight_hr}}, true});
    }
    OuterRow row_of(const Product& product, std::ptrdiff_t first, std::ptrdiff_t step, std::ptrdiff_t b) const {
        if (product.is_of_projection) return {dy_of(step - first, b), {raw_of_step(first, step, b)}};
        return {d_of(step - first, b) + product.from,
                {run_.x.row(time_of(b, step), b), drops() ? dropped_of(step - first, b) : h_before(b, step)}};
    }

    void zero_sums(const TeamPart& part) const {
        for_products([&](const Product& product) {
            const OuterShape& shape = product.shape;
            const Rows share = lines_of(shape.last, part);
            for (int factor = 0; factor < kOuterFactors; ++factor) {
                float* const total = shape.totals[factor];
                if (total == nullptr) continue;
                std::fill(total + share.first * shape.inputs[factor], total + share.last * shape.inputs[factor], 0.0F);
            }
        });
    }

    void add_products(std::ptrdiff_t first, std::ptrdiff_t end, const TeamPart& part,
                      TrainingSpace::Worker& worker) const {
        const Rows whole(run_.batch, {});
        for_products([&](const Product& product) {
            OuterRow* row = worker.outer_rows.data();
            for (std::ptrdiff_t step = end - 1; step >= first; --step) {
                for_rows(step, step + 1, whole,
                         [&](std::ptrdiff_t, std::ptrdiff_t b) { *row++ = row_of(product, first, step, b); });
            }
            OuterShape shape = product.shape;
            const Rows share = lines_of(shape.last, part);
            shape.first = share.first;
            shape.last = share.last;
            product.kernel(worker.outer_rows.data(), row - worker.outer_rows.data(), shape, worker.outer.data());
        });
    }

    const TrainingGradients& gradients_;
    const std::ptrdiff_t segment_;    // steps
    const std::ptrdiff_t segment_rows_;
    const std::ptrdiff_t d_floats_;    // of a row, not a power of two, of which caches hold few
    const std::ptrdiff_t dy_floats_;
    const std::ptrdiff_t recurrent_first_;    // of d, what R has to do with
    PackedLinear recurrent_;                  // transposed, as the next two
    PackedLinear input_;
    PackedLinear projection_;
    std::optional<TrainingSteps> steps_;    // where gates were not saved
};

}    // namespace

TrainingKernels training_kernels(CellKind kind, const KernelTable& table) {
    switch (kind) {
        case CellKind::kRnnTanh: return {table.rnn_tanh_forward, table.rnn_tanh_backward};
        case CellKind::kRnnRelu: return {table.rnn_relu_forward, table.rnn_relu_backward};
        case CellKind::kLstm: return {table.lstm_forward, table.lstm_backward};
        case CellKind::kGruResetAfter: return {table.gru_forward, table.gru_backward};
        case CellKind::kGruResetBefore: break;
    }
    return {nullptr, nullptr};
}

std::size_t TrainingSpace::nbytes() const {
    std::size_t total = packed.size() + packed_back.size() + d.size() +
                        bytes_of(dh, dc, dh_of_cell, held, h_factors, dropped, dy, gates, raw, zeros);
    for (const Worker& worker : workers) {
        total += bytes_of(worker.sums, worker.gates, worker.dropped, worker.states, worker.linear_rows, worker.rows,
                          worker.outer_rows, worker.outer, worker.d);
    }
    return total;
}

bool can_train(CellKind kind, const KernelTable& table) { return training_kernels(kind, table).forward != nullptr; }

RawState raw_of(const TrainingRun& run) {
    if (run.weight_hr != nullptr) return RawState::h;
    if (run.kind == CellKind::kLstm) return run.zoneout_c ? RawState::c : RawState::none;
    return run.zoneout_h && !is_gru(run.kind) ? RawState::h : RawState::none;
}

std::ptrdiff_t gate_floats(CellKind kind, std::ptrdiff_t units, const KernelTable& table) {
    return saves_gates(kind) ? product_of(kSavedGates, padded_to(table.lanes, units)) : 0;
}

double operations_of(const TrainingRun& run) {
    return static_cast<double>(gates_of(run.kind) * run.units) * static_cast<double>(run.inputs + run.outputs) *
           static_cast<double>(run.steps) * static_cast<double>(run.batch);
}

void run_forward(const TrainingRun& run, float* h_n, float* c_n, const KernelTable& table, TrainingSpace& space,
                 int num_threads, Checkpoint* checkpoint) {
    TrainingSteps(run, table, space).run(h_n, c_n, num_threads, checkpoint);
}

void run_backward(const TrainingRun& run, const TrainingGradients& gradients, const KernelTable& table,
                  TrainingSpace& space, int num_threads, Checkpoint* checkpoint) {
    BackwardRunner(run, gradients, table, space).run(num_threads, checkpoint);
}

void run_dropout(const float* x, float* y, std::ptrdiff_t steps, std::ptrdiff_t batch, std::ptrdiff_t size,
                 const Draws& draws, Checkpoint* checkpoint) {
    const TeamPart part{0, 1, nullptr, checkpoint};
    for (std::ptrdiff_t time = 0; time < steps; ++time) {
        for (std::ptrdiff_t b = 0; b < batch; ++b, x += size, y += size) {
            draws.fill(time, b, draws.scale(), y, size);
            drop(x, y, y, size);
        }
        if (!part.pass(static_cast<double>(batch * size))) return;
    }
}

}    // namespace fusedcell
