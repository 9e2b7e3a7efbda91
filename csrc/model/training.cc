#include "model/training.h"

#include <algorithm>
#include <cstring>

#include "model/training_share.h"

namespace fusedcell {
namespace {

std::ptrdiff_t steps_for(std::ptrdiff_t rows, std::ptrdiff_t batch) {
    return (rows + batch - 1) / std::max<std::ptrdiff_t>(batch, 1);
}

struct Kernels {
    TrainingKernel forward;
    TrainingKernel backward;
};
Kernels kernels_of(CellKind kind, const KernelTable& table) {
    switch (kind) {
        case CellKind::kRnnTanh: return {table.rnn_tanh_forward, table.rnn_tanh_backward};
        case CellKind::kRnnRelu: return {table.rnn_relu_forward, table.rnn_relu_backward};
        case CellKind::kLstm: return {table.lstm_forward, table.lstm_backward};
        case CellKind::kGruResetAfter: return {table.gru_forward, table.gru_backward};
        case CellKind::kGruResetBefore: break;
    }
    return {nullptr, nullptr};
}

bool is_gru(CellKind kind) { return kind == CellKind::kGruResetAfter; }
bool saves_gates(CellKind kind) { return kind == CellKind::kLstm || is_gru(kind); }

// What a run there and its way back have in common.
class Runner {
public:
    Runner(const TrainingRun& run, const KernelTable& table, TrainingSpace& space)
        : run_(run),
          table_(table),
          kernels_(kernels_of(run.kind, table)),
          space_(space),
          gates_(gates_of(run.kind)),
          padded_units_(padded_to(table.lanes, run.units)),
          gate_floats_(gate_floats(run.kind, run.units, table)) {
        grow(space.zeros, run.units);
        std::fill(space.zeros.begin(), space.zeros.end(), 0.0F);
    }

protected:
    std::ptrdiff_t length_of(std::ptrdiff_t row) const {
        return run_.lengths == nullptr ? run_.steps : static_cast<std::ptrdiff_t>(run_.lengths[row]);
    }
    // The first steps of a row are those that are run first.
    std::ptrdiff_t time_of(std::ptrdiff_t row, std::ptrdiff_t step) const {
        return run_.reverse ? length_of(row) - 1 - step : step;
    }
    std::ptrdiff_t index_of(std::ptrdiff_t time, std::ptrdiff_t row) const { return time * run_.batch + row; }

    // Whether the state before a step is zero whatever came before. A reset parts the steps before it from the rest, in
    // either direction.
    bool starts_anew(std::ptrdiff_t row, std::ptrdiff_t step) const {
        if (run_.resets == nullptr || (run_.reverse && step == 0)) return false;
        return run_.resets[index_of(time_of(row, step) + (run_.reverse ? 1 : 0), row)];
    }
    // The rows of `batch` that have a step, of the steps [first, end).
    template <class Visit>
    void for_rows(std::ptrdiff_t first, std::ptrdiff_t end, const Rows& batch, const Visit& visit) const {
        for (std::ptrdiff_t step = first; step < end; ++step) {
            for (std::ptrdiff_t b = batch.first; b < batch.last; ++b) {
                if (step < length_of(b)) visit(step, b);
            }
        }
    }
    const float* zeros() const { return space_.zeros.data(); }
    const float* given(const float* states, std::ptrdiff_t row) const {
        return states == nullptr ? zeros() : states + row * run_.units;
    }
    const float* h_before(std::ptrdiff_t row, std::ptrdiff_t step) const {
        if (starts_anew(row, step)) return zeros();
        return step == 0 ? given(run_.h_0, row) : run_.y.row(time_of(row, step - 1), row);
    }
    const float* c_before(std::ptrdiff_t row, std::ptrdiff_t step) const {
        if (run_.c == nullptr) return nullptr;
        if (starts_anew(row, step)) return zeros();
        return step == 0 ? given(run_.c_0, row) : run_.c + index_of(time_of(row, step - 1), row) * run_.units;
    }
    float* c_after(std::ptrdiff_t index) const { return run_.c == nullptr ? nullptr : run_.c + index * run_.units; }

    // Every product's matrix.
    PackedLinear matrix(int gates, std::ptrdiff_t units, std::ptrdiff_t depth, std::ptrdiff_t columns) const {
        return PackedLinear(table_, WeightType::float32, kLinear, gates, units, depth, columns);
    }

    template <class Reserve, class Work>
    void share(int num_threads, Checkpoint* checkpoint, const Reserve& reserve, const Work& work) {
        share_rows(run_.batch, num_threads, space_, checkpoint, reserve, work);
    }

    const TrainingRun& run_;
    const KernelTable& table_;
    const Kernels kernels_;
    TrainingSpace& space_;
    const int gates_;
    const std::ptrdiff_t padded_units_;
    const std::ptrdiff_t gate_floats_;
};

class ForwardRunner : Runner {
public:
    ForwardRunner(const TrainingRun& run, const KernelTable& table, TrainingSpace& space) : Runner(run, table, space) {
        const std::ptrdiff_t outputs = gates_ * padded_units_;
        input_ = matrix(gates_, run.units, run.inputs, outputs);
        recurrent_ = matrix(gates_, run.units, run.units, outputs);
        grow(space.packed, sum_of(to_size(input_.nbytes()), to_size(recurrent_.nbytes())));
        // b_hn of the GRU is multiplied by r, so it starts the chain of R_n instead of joining the input's bias.
        const std::ptrdiff_t rows = gates_ * run.units;
        const std::ptrdiff_t joined = is_gru(run.kind) ? 2 * run.units : rows;
        std::vector<float> input_bias(count_of<float>(rows));
        std::vector<float> recurrent_bias(count_of<float>(rows));
        const auto bias = [](const float* values, std::ptrdiff_t i) { return values == nullptr ? 0.0F : values[i]; };
        for (std::ptrdiff_t i = 0; i < rows; ++i) {
            const auto at = static_cast<std::size_t>(i);
            input_bias[at] = bias(run.bias_ih, i) + (i < joined ? bias(run.bias_hh, i) : 0.0F);
            recurrent_bias[at] = i < joined ? 0.0F : bias(run.bias_hh, i);
        }
        unsigned char* next =
            input_.pack(StridedMatrix{run.weight_ih, run.inputs, 1}, input_bias.data(), space.packed.data());
        recurrent_.pack(StridedMatrix{run.weight_hh, run.units, 1}, recurrent_bias.data(), next);
    }

    void run(float* h_n, float* c_n, int num_threads, Checkpoint* checkpoint) {
        const auto reserve = [&](TrainingSpace::Worker& worker, std::ptrdiff_t rows) {
            const std::ptrdiff_t steps = std::min(chunk_of(rows), run_.steps);
            grow(worker.linear_rows, steps, rows);
            grow(worker.rows, rows);
            grow(worker.sums, rows, gates_, padded_units_);
            if (!saves_gates(run_.kind)) grow(worker.projections, steps, rows, padded_units_);
        };
        share(num_threads, checkpoint, reserve, [&](const TeamPart& part, TrainingSpace::Worker& worker) {
            const Rows rows(run_.batch, part);
            if (!run_rows(rows, part, worker)) return;
            const std::size_t bytes = static_cast<std::size_t>(run_.units) * sizeof(float);
            for (std::ptrdiff_t b = rows.first; b < rows.last; ++b) {
                const std::ptrdiff_t last = length_of(b) - 1;
                const bool has_steps = last >= 0;
                std::memcpy(h_n + b * run_.units, has_steps ? run_.y.row(time_of(b, last), b) : given(run_.h_0, b),
                            bytes);
                if (c_n == nullptr) continue;
                std::memcpy(c_n + b * run_.units,
                            has_steps ? c_after(index_of(time_of(b, last), b)) : given(run_.c_0, b), bytes);
            }
        });
    }

private:
    static std::ptrdiff_t chunk_of(std::ptrdiff_t rows) { return steps_for(kProjectionRows, rows); }

    float* projection(std::ptrdiff_t index, std::ptrdiff_t place, TrainingSpace::Worker& worker) const {
        if (!saves_gates(run_.kind)) return worker.projections.data() + place * padded_units_;
        return run_.gates + index * gate_floats_ + (gate_floats_ - gates_ * padded_units_);
    }

    bool run_rows(const Rows& batch, const TeamPart& part, TrainingSpace::Worker& worker) const {
        const std::ptrdiff_t chunk = chunk_of(batch.size());
        const double operations =
            static_cast<double>(gates_ * run_.units) * static_cast<double>((run_.inputs + run_.units) * batch.size());
        bool backward = false;
        LinearRow* const linear_rows = worker.linear_rows.data();
        for (std::ptrdiff_t first = 0; first < run_.steps; first += chunk) {
            const std::ptrdiff_t end = std::min(first + chunk, run_.steps);
            LinearRow* linear = linear_rows;
            for_rows(first, end, batch, [&](std::ptrdiff_t step, std::ptrdiff_t b) {
                const std::ptrdiff_t time = time_of(b, step);
                *linear++ = {run_.x.row(time, b),
                             projection(index_of(time, b), (step - first) * batch.size() + b - batch.first, worker)};
            });
            input_.run(kLinear, linear_rows, linear - linear_rows, {0, input_.blocks(), backward});
            for (std::ptrdiff_t step = first; step < end; ++step) {
                TrainingRow* row = worker.rows.data();
                linear = linear_rows;
                float* sums = worker.sums.data();
                for_rows(step, step + 1, batch, [&](std::ptrdiff_t, std::ptrdiff_t b) {
                    const std::ptrdiff_t time = time_of(b, step);
                    const std::ptrdiff_t index = index_of(time, b);
                    row->projection = projection(index, (step - first) * batch.size() + b - batch.first, worker);
                    row->sums = sums;
                    row->gates = run_.gates == nullptr ? nullptr : run_.gates + index * gate_floats_;
                    row->h = h_before(b, step);
                    row->c = c_before(b, step);
                    row->h_next = run_.y.row(time, b);
                    row->c_next = c_after(index);
                    *linear++ = {row->h, sums};
                    ++row;
                    sums += gates_ * padded_units_;
                });
                const std::ptrdiff_t count = linear - linear_rows;
                recurrent_.run(kLinear, linear_rows, count, {0, recurrent_.blocks(), backward});
                kernels_.forward(worker.rows.data(), count, run_.units);
                backward = !backward;
                if (!part.pass(operations)) return false;
            }
        }
        return true;
    }

    PackedLinear input_;
    PackedLinear recurrent_;
};

class BackwardRunner : Runner {
public:
    BackwardRunner(const TrainingRun& run, const TrainingGradients& gradients, const KernelTable& table,
                   TrainingSpace& space)
        : Runner(run, table, space),
          gradients_(gradients),
          segment_(steps_for(kSegmentRows, run.batch)),
          d_floats_(padded_to(kLineFloats, (is_gru(run.kind) ? 4 : gates_) * run.units + kOuterOverrun) + kLineFloats),
          recurrent_first_(is_gru(run.kind) ? run.units : 0) {
        const std::ptrdiff_t depth = gates_ * run.units;
        recurrent_ = matrix(1, run.units, depth, run.units);
        if (gradients.x.data != nullptr) input_ = matrix(1, run.inputs, depth, run.inputs);
        grow(space.packed, sum_of(to_size(input_.nbytes()), to_size(recurrent_.nbytes())));
        unsigned char* next = recurrent_.pack(StridedMatrix{run.weight_hh, 1, run.units}, nullptr, space.packed.data());
        if (input_) {
            // d of the GRU begins with the last third of W's rows.
            const std::ptrdiff_t rotation = is_gru(run.kind) ? run.units : 0;
            input_.pack(StridedMatrix{run.weight_ih, 1, run.inputs, rotation}, nullptr, next);
        }
        grow(space.d, product_of(std::min(segment_, run.steps), run.batch, d_floats_, sizeof(float)));
        grow(space.dh, run.batch, run.units);
        grow(space.dc, run.batch, run.units);
    }

    void run(int num_threads, Checkpoint* checkpoint) {
        const auto reserve = [&](TrainingSpace::Worker& worker, std::ptrdiff_t rows) {
            const std::ptrdiff_t steps = std::min(segment_, run_.steps);
            grow(worker.linear_rows, steps, rows);
            grow(worker.rows, rows);
            grow(worker.outer_rows, steps, run_.batch);
            const std::ptrdiff_t inputs = std::max(run_.inputs, run_.units);
            grow(worker.outer, OuterShape::scratch(product_of(steps, run_.batch), inputs));
        };
        share(num_threads, checkpoint, reserve, [&](const TeamPart& part, TrainingSpace::Worker& worker) {
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
            if (shares_bias()) copy_bias(part);
        });
    }

private:
    float* dh_of(std::ptrdiff_t row) const { return space_.dh.data() + row * run_.units; }
    // Of the GRU, what comes past R.
    float* dc_of(std::ptrdiff_t row) const { return space_.dc.data() + row * run_.units; }
    float* d_of(std::ptrdiff_t step_of_segment, std::ptrdiff_t row) const {
        return reinterpret_cast<float*>(space_.d.data()) + (step_of_segment * run_.batch + row) * d_floats_;
    }
    double weight_operations(std::ptrdiff_t steps) const {
        return static_cast<double>(gates_ * run_.units) * static_cast<double>(run_.inputs + run_.units) *
               static_cast<double>(steps * run_.batch);
    }

    void start(const Rows& batch) const {
        const std::size_t bytes = static_cast<std::size_t>(run_.units) * sizeof(float);
        for (std::ptrdiff_t b = batch.first; b < batch.last; ++b) {
            std::memcpy(dh_of(b), given(gradients_.h_n, b), bytes);
            std::memcpy(dc_of(b), given(gradients_.c_n, b), bytes);
        }
    }

    void finish(const Rows& batch) const {
        for (std::ptrdiff_t b = batch.first; b < batch.last; ++b) {
            for (std::ptrdiff_t j = 0; j < run_.units; ++j) {
                const float dh = dh_of(b)[j];
                const float dc = dc_of(b)[j];
                if (gradients_.h_0 != nullptr) gradients_.h_0[b * run_.units + j] = is_gru(run_.kind) ? dh + dc : dh;
                if (gradients_.c_0 != nullptr) gradients_.c_0[b * run_.units + j] = dc;
            }
        }
    }

    // d of the steps [first, end), from the last one down, and x's derivatives.
    bool run_segment(std::ptrdiff_t first, std::ptrdiff_t end, const Rows& batch, const TeamPart& part,
                     TrainingSpace::Worker& worker) const {
        const double operations = static_cast<double>(gates_ * run_.units) *
                                  static_cast<double>((run_.units + (input_ ? run_.inputs : 0)) * batch.size());
        bool backward = false;
        LinearRow* const linear_rows = worker.linear_rows.data();
        for (std::ptrdiff_t step = end - 1; step >= first; --step) {
            TrainingRow* row = worker.rows.data();
            LinearRow* linear = linear_rows;
            for_rows(step, step + 1, batch, [&](std::ptrdiff_t, std::ptrdiff_t b) {
                const std::ptrdiff_t time = time_of(b, step);
                const std::ptrdiff_t index = index_of(time, b);
                float* d = d_of(step - first, b);
                row->gates = run_.gates == nullptr ? nullptr : run_.gates + index * gate_floats_;
                row->h = h_before(b, step);
                row->c = c_before(b, step);
                row->h_next = run_.y.row(time, b);
                row->c_next = c_after(index);
                row->dy = gradients_.y.data == nullptr ? zeros() : gradients_.y.row(time, b);
                row->dh = dh_of(b);
                row->dc = dc_of(b);
                row->d = d;
                ++row;
                if (!starts_anew(b, step)) *linear++ = {d + recurrent_first_, dh_of(b)};
            });
            kernels_.backward(worker.rows.data(), row - worker.rows.data(), run_.units);
            recurrent_.run(kLinear, linear_rows, linear - linear_rows, {0, recurrent_.blocks(), backward});
            backward = !backward;
            if (run_.resets != nullptr) {
                for_rows(step, step + 1, batch, [&](std::ptrdiff_t, std::ptrdiff_t b) {
                    if (!starts_anew(b, step)) return;
                    std::fill_n(dh_of(b), run_.units, 0.0F);
                    std::fill_n(dc_of(b), run_.units, 0.0F);
                });
            }
            if (!part.pass(operations)) return false;
        }
        if (!input_) return true;
        LinearRow* linear = linear_rows;
        for_rows(first, end, batch, [&](std::ptrdiff_t step, std::ptrdiff_t b) {
            *linear++ = {d_of(step - first, b), gradients_.x.row(time_of(b, step), b)};
        });
        input_.run(kLinear, linear_rows, linear - linear_rows, {0, input_.blocks(), false});
        return true;
    }

    // The products that the derivatives of weights and biases add up: of the floats of d from `from` on and x or h.
    struct Product {
        float* total;
        std::ptrdiff_t from;
        std::ptrdiff_t rows;    // of total
        std::ptrdiff_t inputs;
        bool is_recurrent;
        OuterKernel kernel;
    };
    template <class Visit>
    void for_products(const Visit& visit) const {
        const std::ptrdiff_t units = run_.units;
        const std::ptrdiff_t all = gates_ * units;
        const auto of_input = [&](float* total, std::ptrdiff_t inputs, OuterKernel kernel) {
            if (total == nullptr) return;
            if (!is_gru(run_.kind)) return visit(Product{total, 0, all, inputs, false, kernel});
            visit(Product{total, units, 2 * units, inputs, false, kernel});
            visit(Product{total + 2 * units * inputs, 0, units, inputs, false, kernel});
        };
        of_input(gradients_.weight_ih, run_.inputs, table_.outer);
        of_input(gradients_.bias_ih, 1, table_.column_sums);
        const auto of_state = [&](float* total, std::ptrdiff_t inputs, OuterKernel kernel) {
            if (total != nullptr) visit(Product{total, recurrent_first_, all, inputs, true, kernel});
        };
        of_state(gradients_.weight_hh, units, table_.outer);
        if (!shares_bias()) of_state(gradients_.bias_hh, 1, table_.column_sums);
    }

    // Of the GRU alone the two biases' derivatives differ.
    bool shares_bias() const {
        return !is_gru(run_.kind) && gradients_.bias_ih != nullptr && gradients_.bias_hh != nullptr;
    }
    void copy_bias(const TeamPart& part) const {
        const Rows share = lines_of(gates_ * run_.units, part);
        std::copy(gradients_.bias_ih + share.first, gradients_.bias_ih + share.last, gradients_.bias_hh + share.first);
    }

    void zero_sums(const TeamPart& part) const {
        for_products([&](const Product& product) {
            const Rows share = lines_of(product.rows, part);
            std::fill(product.total + share.first * product.inputs, product.total + share.last * product.inputs, 0.0F);
        });
    }

    void add_products(std::ptrdiff_t first, std::ptrdiff_t end, const TeamPart& part,
                      TrainingSpace::Worker& worker) const {
        const Rows whole(run_.batch, {});
        for_products([&](const Product& product) {
            OuterRow* row = worker.outer_rows.data();
            for (std::ptrdiff_t step = end - 1; step >= first; --step) {
                for_rows(step, step + 1, whole, [&](std::ptrdiff_t, std::ptrdiff_t b) {
                    *row++ = {d_of(step - first, b) + product.from,
                              product.is_recurrent ? h_before(b, step) : run_.x.row(time_of(b, step), b)};
                });
            }
            const Rows share = lines_of(product.rows, part);
            product.kernel(worker.outer_rows.data(), row - worker.outer_rows.data(),
                           {share.first, share.last, product.inputs}, product.total, worker.outer.data());
        });
    }

    const TrainingGradients& gradients_;
    const std::ptrdiff_t segment_;            // steps
    const std::ptrdiff_t d_floats_;           // of a row, not a power of two, of which caches hold few
    const std::ptrdiff_t recurrent_first_;    // of d, what R has to do with
    PackedLinear recurrent_;                  // transposed, as input_
    PackedLinear input_;
};

}    // namespace

std::size_t TrainingSpace::nbytes() const {
    std::size_t total = packed.size() + d.size() + bytes_of(dh, dc, zeros);
    for (const Worker& worker : workers) {
        total += bytes_of(worker.sums, worker.projections, worker.linear_rows, worker.rows, worker.outer_rows,
                          worker.outer, worker.d);
    }
    return total;
}

bool can_train(CellKind kind, const KernelTable& table) { return kernels_of(kind, table).forward != nullptr; }

std::ptrdiff_t gate_floats(CellKind kind, std::ptrdiff_t units, const KernelTable& table) {
    return saves_gates(kind) ? product_of(kSavedGates, padded_to(table.lanes, units)) : 0;
}

double operations_of(const TrainingRun& run) {
    return static_cast<double>(gates_of(run.kind) * run.units) * static_cast<double>(run.inputs + run.units) *
           static_cast<double>(run.steps) * static_cast<double>(run.batch);
}

void run_forward(const TrainingRun& run, float* h_n, float* c_n, const KernelTable& table, TrainingSpace& space,
                 int num_threads, Checkpoint* checkpoint) {
    ForwardRunner(run, table, space).run(h_n, c_n, num_threads, checkpoint);
}

void run_backward(const TrainingRun& run, const TrainingGradients& gradients, const KernelTable& table,
                  TrainingSpace& space, int num_threads, Checkpoint* checkpoint) {
    BackwardRunner(run, gradients, table, space).run(num_threads, checkpoint);
}

}    // namespace fusedcell
