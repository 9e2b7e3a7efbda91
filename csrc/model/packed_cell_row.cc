// One row on one thread, without what batches, masks and threads need: on small layers that takes as long as the step.
#include "model/packed_cell.h"

namespace fusedcell {

const MatrixKernel<CellRow>& PackedCell::recurrent_kernel() const {
    switch (kind_) {
        case CellKind::kRnnTanh: return kernels_->rnn_tanh;
        case CellKind::kRnnRelu: return kernels_->rnn_relu;
        case CellKind::kLstm: return kernels_->lstm;
        case CellKind::kGruResetAfter: return kernels_->gru_reset_after;
        case CellKind::kGruResetBefore: break;
    }
    return kernels_->gru_reset_before_gates;
}

const void* PackedCell::input_of_row(const float* x, std::ptrdiff_t size, InputScale scale, float* quantised) const {
    if (type_ != WeightType::int8) return x;
    const QuantiseRow row{x, reinterpret_cast<QuantisedInput*>(quantised)};
    table_->quantise(&row, 1, size, scale);
    return row.q;
}

void PackedCell::multiply_candidate(CellRow& row, ThreadSpace& own) const {
    row.input = input_of_row(row.reset_h, geometry_.hidden_size, output_scale(), own.quantised_h.data());
    kernels_->gru_reset_before_candidate.run(candidate_, &row, 1, {0, candidate_.blocks, own.backward});
}

void PackedCell::step(const CellStep& step, SharedSpace& shared, ThreadSpace& own) const {
    LinearRow& input = own.linear_rows.front();
    input.input = input_of_row(step.x, input_size_, input_scale_, own.quantised_x.data());
    input.y = shared.projections.data();
    CellRow& row = own.cell_rows.front();
    row.input = input_of_row(step.h, geometry_.hidden_size, state_scale(), own.quantised_h.data());
    row.projection = shared.projections.data();
    row.h = step.h;
    row.h_next = step.y;
    row.c = step.c;
    row.trace = nullptr;
    row.update = shared.cell.data();
    row.reset_h = row.update + padded_hidden_;
    if (wants_to_walk_both() && are_apart(step.x, input_size_, step.y, geometry_.hidden_size)) {
        walk_both(1, {shared, own, {}});
    } else {
        kernels_->linear.run(input_, &input, 1, {0, input_.blocks, own.backward});
        recurrent_kernel().run(recurrent_, &row, 1, {0, recurrent_.blocks, own.backward});
        if (kind_ == CellKind::kGruResetBefore) multiply_candidate(row, own);
    }
}

bool PackedCell::can_run_row(const CellRun& run, const TeamPart& part) const {
    return run.steps > 1 && run.mask.data == nullptr && !run.trace && part.count == 1 && can_step();
}

bool PackedCell::run_row(const CellRun& run, const Chunk& chunk, double operations, const CellWorker& worker) const {
    const MatrixKernel<CellRow>& kernel = recurrent_kernel();
    const InputScale scale = state_scale();
    ThreadSpace& own = worker.own;
    CellRow& row = own.cell_rows.front();
    row.projection = worker.shared.projections.data();
    const std::ptrdiff_t index = run.order == nullptr ? 0 : run.order[0];
    const std::ptrdiff_t steps = run.lengths == nullptr ? run.steps : static_cast<std::ptrdiff_t>(run.lengths[index]);
    row.h = own.previous_h[index];
    row.c = run.states.c_of(index, geometry_.hidden_size);
    row.trace = nullptr;
    row.update = worker.shared.cell.data();
    row.reset_h = row.update + padded_hidden_;
    for (std::ptrdiff_t step = chunk.first; step < chunk.first + chunk.steps; ++step) {
        row.input = input_of_row(row.h, geometry_.hidden_size, scale, own.quantised_h.data());
        row.h_next = run.y.row(run.reverse ? steps - 1 - step : step, index);
        kernel.run(recurrent_, &row, 1, {0, recurrent_.blocks, own.backward});
        if (kind_ == CellKind::kGruResetBefore) multiply_candidate(row, own);
        own.backward = !own.backward;
        if (!worker.part.pass(operations)) return false;
        row.projection += projection_floats_;
        row.h = row.h_next;
    }
    own.previous_h[index] = row.h;
    return true;
}

}    // namespace fusedcell
