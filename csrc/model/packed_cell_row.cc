// One row on one thread, without what batches, masks and threads need: on small layers that takes as long as the step.
#include "model/packed_cell.h"

namespace fusedcell {

void PackedCell::multiply_row(const PackedLinear& matrix, CellKernel kernel, GateKernel gates, CellRow& row,
                              SharedSpace& shared, ThreadSpace& own) const {
    const BlockRange blocks{0, matrix.blocks(), own.backward};
    if (!has_sums_) {
        matrix.run(kernel, &row, 1, blocks);
        return;
    }
    const LinearRow sums{row.input, shared.sums.data()};
    matrix.run(&WeightKernels::linear, &sums, 1, blocks);
    gates(&row, 1, {sums.y, 0, 0, padded_hidden_ / table_->lanes, geometry_.hidden_size}, options_);
}

void PackedCell::multiply_row(CellRow& row, SharedSpace& shared, ThreadSpace& own) const {
    multiply_row(recurrent_, recurrent_kernel_, has_sums_ ? gate_kernel() : nullptr, row, shared, own);
    if (kind_ == CellKind::kGruResetBefore) multiply_candidate(row, shared, own);
}

void PackedCell::multiply_candidate(CellRow& row, SharedSpace& shared, ThreadSpace& own) const {
    row.input = candidate_.input(row.reset_h, output_scale(), own.h);
    multiply_row(candidate_, kCandidateKernel, candidate_gate_kernel(), row, shared, own);
}

void PackedCell::step_in_passes(const CellStep& step, bool has_zeros, SharedSpace& shared, ThreadSpace& own) const {
    const bool is_folded = !folded_.empty();
    LinearRow& input = own.linear_rows.front();
    if (has_zeros) {
        input.input = &own.x.nonzero;
    } else if (!is_folded) {
        input.input = input_.input(step.x, input_scale_, own.x);
    }
    input.y = shared.projections.data();
    CellRow& row = own.cell_rows.front();
    row.input = recurrent_.input(step.h, state_scale(), own.h);
    row.projection = is_folded ? folded_projection(step.x) : shared.projections.data();
    row.h = step.h;
    row.h_next = step.y;
    row.c = step.c;
    row.trace = nullptr;
    make_room(row, shared.cell.data());
    if (!has_zeros && wants_to_walk_both() && are_apart(step.x, input_size_, step.y, geometry_.hidden_size)) {
        walk_both(1, {shared, own, {}});
    } else {
        if (!is_folded) input_.run(input_kernel(has_zeros), &input, 1, {0, input_.blocks(), own.backward});
        multiply_row(row, shared, own);
    }
}

bool PackedCell::can_run_row(const CellRun& run, const TeamPart& part) const {
    return run.steps > 1 && run.mask.data == nullptr && !run.trace && part.count == 1 && can_step();
}

bool PackedCell::run_row(const CellRun& run, const Chunk& chunk, double operations, const CellWorker& worker) const {
    const InputScale scale = state_scale();
    ThreadSpace& own = worker.own;
    CellRow& row = own.cell_rows.front();
    row.projection = worker.shared.projections.data();
    const std::ptrdiff_t index = run.order == nullptr ? 0 : run.order[0];
    const std::ptrdiff_t steps = run.lengths == nullptr ? run.steps : static_cast<std::ptrdiff_t>(run.lengths[index]);
    row.h = own.previous_h[index];
    row.c = run.states.c_of(index, geometry_.hidden_size);
    row.trace = nullptr;
    make_room(row, worker.shared.cell.data());
    for (std::ptrdiff_t step = chunk.first; step < chunk.first + chunk.steps; ++step) {
        row.input = recurrent_.input(row.h, scale, own.h);
        row.h_next = run.y.row(run.reverse ? steps - 1 - step : step, index);
        multiply_row(row, worker.shared, own);
        own.backward = !own.backward;
        if (!worker.part.pass(operations)) return false;
        row.projection += projection_floats_;
        row.h = row.h_next;
    }
    own.previous_h[index] = row.h;
    return true;
}

}    // namespace fusedcell
