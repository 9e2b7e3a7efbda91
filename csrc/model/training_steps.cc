#include "model/training_steps.h"

#include <algorithm>
#include <vector>

namespace fusedcell {
namespace {

std::ptrdiff_t chunk_of(std::ptrdiff_t rows) { return steps_for(kProjectionRows, rows); }

// The state is the new one where `taken` is 1, the old one where it is 0, and else a mean of both.
void hold(const float* taken, const float* old_state, const float* new_state, float* state, std::ptrdiff_t size) {
    for (std::ptrdiff_t i = 0; i < size; ++i) state[i] = taken[i] * new_state[i] + (1 - taken[i]) * old_state[i];
}

}    // namespace

TrainingSteps::TrainingSteps(const TrainingRun& run, const KernelTable& table, TrainingSpace& space)
    : TrainingRunner(run, table, space) {
    const std::ptrdiff_t outputs = gates_ * padded_units_;
    input_ = matrix(gates_, run.units, run.inputs, outputs);
    recurrent_ = matrix(gates_, run.units, run.outputs, outputs);
    if (run.weight_hr != nullptr) projection_ = matrix(1, run.outputs, run.units, run.outputs);
    grow(space.packed,
         sum_of(sum_of(to_size(input_.nbytes()), to_size(recurrent_.nbytes())), to_size(projection_.nbytes())));
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
    next = recurrent_.pack(StridedMatrix{run.weight_hh, run.outputs, 1}, recurrent_bias.data(), next);
    if (projection_) projection_.pack(StridedMatrix{run.weight_hr, run.units, 1}, nullptr, next);
    reserve_h_factors();
}

void TrainingSteps::reserve(TrainingSpace::Worker& worker, std::ptrdiff_t rows) const {
    const std::ptrdiff_t steps = std::min(chunk_of(rows), run_.steps);
    grow(worker.linear_rows, steps, rows);
    grow(worker.rows, rows);
    grow(worker.sums, rows, gates_, padded_units_);
    if (run_.gates == nullptr) grow(worker.gates, steps, rows, slot_floats());
    if (drops()) grow(worker.dropped, rows, run_.outputs);
    grow(worker.states, sum_of(rows, 1), product_of(2, run_.units));
}

void TrainingSteps::run(float* h_n, float* c_n, int num_threads, Checkpoint* checkpoint) {
    const auto reserve_rows = [&](TrainingSpace::Worker& worker, std::ptrdiff_t rows) { reserve(worker, rows); };
    share_rows(run_.batch, num_threads, space_, checkpoint, reserve_rows,
               [&](const TeamPart& part, TrainingSpace::Worker& worker) {
                   const Rows rows(run_.batch, part);
                   draw_h_factors(rows);
                   if (!run_steps(0, run_.steps, rows, part, worker, nullptr)) return;
                   for (std::ptrdiff_t b = rows.first; b < rows.last; ++b) {
                       const std::ptrdiff_t last = length_of(b) - 1;
                       const float* h = last < 0 ? given(run_.h_0, b, run_.outputs) : run_.y.row(time_of(b, last), b);
                       std::copy_n(h, run_.outputs, h_n + b * run_.outputs);
                       if (c_n == nullptr) continue;
                       const float* c =
                           last < 0 ? given(run_.c_0, b, run_.units) : c_after(index_of(time_of(b, last), b));
                       std::copy_n(c, run_.units, c_n + b * run_.units);
                   }
               });
}

// h as R meets it.
const float* TrainingSteps::recurrent_input(std::ptrdiff_t row, const float* h, float* dropped) const {
    if (!drops()) return h;
    drop(h, h_factors(row), dropped, run_.outputs);
    return dropped;
}

bool TrainingSteps::run_steps(std::ptrdiff_t first, std::ptrdiff_t end, const Rows& batch, const TeamPart& part,
                              TrainingSpace::Worker& worker, const Again* again) const {
    const std::ptrdiff_t chunk = chunk_of(batch.size());
    const double operations =
        static_cast<double>(gates_ * run_.units) * static_cast<double>((run_.inputs + run_.outputs) * batch.size());
    bool backward = false;
    LinearRow* const linear_rows = worker.linear_rows.data();
    for (std::ptrdiff_t from = first; from < end; from += chunk) {
        const std::ptrdiff_t to = std::min(from + chunk, end);
        const auto slot_of = [&](std::ptrdiff_t step, std::ptrdiff_t b) {
            if (again != nullptr && again->gates != nullptr)
                return again->gates + index_of(step - again->first, b) * slot_floats();
            if (run_.gates != nullptr && again == nullptr)
                return run_.gates + index_of(time_of(b, step), b) * slot_floats();
            return worker.gates.data() + ((step - from) * batch.size() + b - batch.first) * slot_floats();
        };
        const bool is_far = (again == nullptr ? run_.gates : again->gates) != nullptr;
        LinearRow* linear = linear_rows;
        for_rows(from, to, batch, [&](std::ptrdiff_t step, std::ptrdiff_t b) {
            *linear++ = {run_.x.row(time_of(b, step), b), projection_of(slot_of(step, b))};
        });
        input_.run(kLinear, linear_rows, linear - linear_rows, {0, input_.blocks(), backward, is_far});
        for (std::ptrdiff_t step = from; step < to; ++step) {
            TrainingRow* row = worker.rows.data();
            linear = linear_rows;
            float* sums = worker.sums.data();
            float* dropped = worker.dropped.data();
            float* states = worker.states.data();
            for_rows(step, step + 1, batch, [&](std::ptrdiff_t, std::ptrdiff_t b) {
                const std::ptrdiff_t time = time_of(b, step);
                const std::ptrdiff_t index = index_of(time, b);
                float* const slot = slot_of(step, b);
                float* raw = states;
                if (again != nullptr && again->raw != nullptr) {
                    raw = again->raw + index_of(step - again->first, b) * run_.units;
                } else if (again == nullptr && run_.raw != nullptr) {
                    raw = run_.raw + index * run_.units;
                }
                row->projection = projection_of(slot);
                row->sums = sums;
                row->gates = slot;
                row->h = h_before(b, step);
                row->c = c_before(b, step);
                row->h_next = raw_ == RawState::h ? raw : again != nullptr ? states : run_.y.row(time, b);
                row->c_next = raw_ == RawState::c ? raw : again != nullptr ? states + run_.units : c_after(index);
                *linear++ = {recurrent_input(b, row->h, dropped), sums};
                ++row;
                sums += gates_ * padded_units_;
                if (drops()) dropped += run_.outputs;
                states += 2 * run_.units;
            });
            const std::ptrdiff_t count = linear - linear_rows;
            recurrent_.run(kLinear, linear_rows, count, {0, recurrent_.blocks(), backward});
            kernels_.forward(worker.rows.data(), count, run_.units);
            if (again == nullptr) finish_step(step, batch, worker);
            backward = !backward;
            if (!part.pass(operations)) return false;
        }
    }
    return true;
}

// Of what the kernels have left of a step, what is then done to it: the projection, zoneout, and the states that are
// held.
void TrainingSteps::finish_step(std::ptrdiff_t step, const Rows& batch, TrainingSpace::Worker& worker) const {
    const TrainingRow* row = worker.rows.data();
    if (projection_) {
        LinearRow* linear = worker.linear_rows.data();
        for_rows(step, step + 1, batch, [&](std::ptrdiff_t, std::ptrdiff_t b) {
            *linear++ = {(row++)->h_next, run_.y.row(time_of(b, step), b)};
        });
        projection_.run(kLinear, worker.linear_rows.data(), linear - worker.linear_rows.data(),
                        {0, projection_.blocks(), false});
    } else if (run_.zoneout_h || run_.zoneout_c) {
        float* const taken = worker.states.data() + 2 * batch.size() * run_.units;
        for_rows(step, step + 1, batch, [&](std::ptrdiff_t, std::ptrdiff_t b) {
            const std::ptrdiff_t time = time_of(b, step);
            if (run_.zoneout_h) {
                fill_taken(run_.zoneout_h, time, b, taken);
                hold(taken, row->h, row->h_next, run_.y.row(time, b), run_.units);
            }
            if (run_.zoneout_c) {
                fill_taken(run_.zoneout_c, time, b, taken);
                hold(taken, row->c, row->c_next, c_after(index_of(time, b)), run_.units);
            }
            ++row;
        });
    }
    for_held(step, batch, [&](std::ptrdiff_t, std::ptrdiff_t b) {
        const std::ptrdiff_t time = time_of(b, step);
        std::copy_n(h_before(b, step), run_.outputs, run_.y.row(time, b));
        if (run_.c != nullptr) std::copy_n(c_before(b, step), run_.units, c_after(index_of(time, b)));
    });
}

}    // namespace fusedcell
