// What a layer's run there and its way back have in common: where the rows of a step are, and the states before them.
#pragma once

#include <algorithm>
#include <cstddef>

#include "model/training.h"
#include "model/training_share.h"

namespace fusedcell {

struct TrainingKernels {
    TrainingKernel forward;
    TrainingKernel backward;
};
TrainingKernels training_kernels(CellKind kind, const KernelTable& table);

inline bool is_gru(CellKind kind) { return kind == CellKind::kGruResetAfter; }
inline bool saves_gates(CellKind kind) { return kind == CellKind::kLstm || is_gru(kind); }

/// So many steps have `rows` rows at least.
inline std::ptrdiff_t steps_for(std::ptrdiff_t rows, std::ptrdiff_t batch) {
    return (rows + batch - 1) / std::max<std::ptrdiff_t>(batch, 1);
}

class TrainingRunner {
public:
    TrainingRunner(const TrainingRun& run, const KernelTable& table, TrainingSpace& space)
        : run_(run),
          table_(table),
          kernels_(training_kernels(run.kind, table)),
          space_(space),
          gates_(gates_of(run.kind)),
          padded_units_(padded_to(table.lanes, run.units)),
          gate_floats_(gate_floats(run.kind, run.units, table)),
          raw_(raw_of(run)) {
        grow(space.zeros, std::max(run.units, run.outputs));
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
    bool is_held(std::ptrdiff_t row, std::ptrdiff_t step) const {
        return run_.mask != nullptr && !run_.mask[index_of(time_of(row, step), row)];
    }
    // The rows of `batch` that have a step, of the steps [first, end): those that are computed, or those whose state
    // the mask holds.
    template <class Visit>
    void for_rows(std::ptrdiff_t first, std::ptrdiff_t end, const Rows& batch, const Visit& visit) const {
        visit_rows(first, end, batch, false, visit);
    }
    template <class Visit>
    void for_held(std::ptrdiff_t step, const Rows& batch, const Visit& visit) const {
        if (run_.mask != nullptr) visit_rows(step, step + 1, batch, true, visit);
    }
    const float* zeros() const { return space_.zeros.data(); }
    const float* given(const float* states, std::ptrdiff_t row, std::ptrdiff_t size) const {
        return states == nullptr ? zeros() : states + row * size;
    }
    const float* h_before(std::ptrdiff_t row, std::ptrdiff_t step) const {
        if (starts_anew(row, step)) return zeros();
        return step == 0 ? given(run_.h_0, row, run_.outputs) : run_.y.row(time_of(row, step - 1), row);
    }
    const float* c_before(std::ptrdiff_t row, std::ptrdiff_t step) const {
        if (run_.c == nullptr) return nullptr;
        if (starts_anew(row, step)) return zeros();
        return step == 0 ? given(run_.c_0, row, run_.units) : c_after(index_of(time_of(row, step - 1), row));
    }
    float* c_after(std::ptrdiff_t index) const { return run_.c == nullptr ? nullptr : run_.c + index * run_.units; }

    // Every product's matrix. One that the nearest caches do not hold is read faster, by tiles of several rows, where
    // blocks are as narrow as these tiles (RowsOfFarBlock in kernels/generic/tile.h); a single row would be slower.
    // Tiles of many rows are narrower on some tiers.
    PackedLinear matrix(int gates, std::ptrdiff_t units, std::ptrdiff_t depth, std::ptrdiff_t columns) const {
        constexpr std::ptrdiff_t kLargeBytes = std::ptrdiff_t{512} << 10;
        constexpr int kTallRows = 8;
        const int narrow = run_.batch < kTallRows ? 4 : table_.float32.linear.panels_per_tile;
        const bool is_narrow = run_.batch >= 4 && product_of(gates, units, depth, sizeof(float)) >= kLargeBytes;
        return PackedLinear(table_, WeightType::float32, kLinear, gates, units, depth, columns,
                            is_narrow ? std::min(narrow, table_.float32.linear.panels_per_block) : 0);
    }

    // What recurrent dropout multiplies h of a row by, at every step the same.
    bool drops() const { return static_cast<bool>(run_.recurrent_dropout); }
    float* h_factors(std::ptrdiff_t row) const { return space_.h_factors.data() + row * run_.outputs; }
    void reserve_h_factors() const {
        if (drops()) grow(space_.h_factors, run_.batch, run_.outputs);
    }
    void draw_h_factors(const Rows& batch) const {
        if (!drops()) return;
        const Draws& draws = run_.recurrent_dropout;
        for (std::ptrdiff_t b = batch.first; b < batch.last; ++b) {
            draws.fill(0, b, draws.scale(), h_factors(b), run_.outputs);
        }
    }

    // The share of a step's new state that zoneout takes; the rest is the state before the step.
    void fill_taken(const Draws& zoneout, std::ptrdiff_t time, std::ptrdiff_t row, float* taken) const {
        if (run_.expects_zoneout) {
            std::fill_n(taken, run_.units, static_cast<float>(1 - zoneout.rate));
        } else {
            zoneout.fill(time, row, 1.0F, taken, run_.units);
        }
    }

    const TrainingRun& run_;
    const KernelTable& table_;
    const TrainingKernels kernels_;
    TrainingSpace& space_;
    const int gates_;
    const std::ptrdiff_t padded_units_;
    const std::ptrdiff_t gate_floats_;
    const RawState raw_;

private:
    template <class Visit>
    void visit_rows(std::ptrdiff_t first, std::ptrdiff_t end, const Rows& batch, bool held, const Visit& visit) const {
        for (std::ptrdiff_t step = first; step < end; ++step) {
            for (std::ptrdiff_t b = batch.first; b < batch.last; ++b) {
                if (step < length_of(b) && is_held(b, step) == held) visit(step, b);
            }
        }
    }
};

}    // namespace fusedcell
