#include <algorithm>
#include <optional>

#include "model/training_share.h"

namespace fusedcell {
namespace {

// One product of rows by a matrix, on the way there or back.
class Product {
public:
    Product(const KernelTable& table, std::ptrdiff_t inputs, std::ptrdiff_t outputs, const StridedMatrix& matrix,
            const float* bias, TrainingSpace& space)
        : matrix_(table, WeightType::float32, kLinear, 1, outputs, inputs, outputs), outputs_(outputs) {
        grow(space.packed, to_size(matrix_.nbytes()));
        matrix_.pack(matrix, bias, space.packed.data());
    }

    bool run(const float* x, float* y, const Rows& rows, const TeamPart& part, TrainingSpace::Worker& worker) const {
        bool backward = false;
        for (std::ptrdiff_t first = rows.first; first < rows.last; first += kProjectionRows) {
            const std::ptrdiff_t end = std::min(first + kProjectionRows, rows.last);
            LinearRow* row = worker.linear_rows.data();
            for (std::ptrdiff_t r = first; r < end; ++r) *row++ = {x + r * matrix_.depth(), y + r * outputs_};
            matrix_.run(kLinear, worker.linear_rows.data(), end - first, {0, matrix_.blocks(), backward, true});
            backward = !backward;
            if (!part.pass(matrix_.operations() * static_cast<double>(end - first))) return false;
        }
        return true;
    }

private:
    PackedLinear matrix_;
    std::ptrdiff_t outputs_;
};

// Floats of a row of d: the share of one thread, and what a sum may read beyond it.
std::ptrdiff_t d_floats(std::ptrdiff_t outputs) { return padded_to(kLineFloats, sum_of(outputs, kOuterOverrun)); }

bool add_sums(const LinearTraining& run, const LinearGradients& gradients, const KernelTable& table,
              const TeamPart& part, TrainingSpace::Worker& worker) {
    const Rows share = lines_of(run.outputs, part);
    float* const weight = gradients.weight == nullptr ? nullptr : gradients.weight + share.first * run.inputs;
    float* const bias = gradients.bias == nullptr ? nullptr : gradients.bias + share.first;
    if (weight != nullptr) std::fill_n(weight, share.size() * run.inputs, 0.0F);
    if (bias != nullptr) std::fill_n(bias, share.size(), 0.0F);
    const std::ptrdiff_t stride = d_floats(share.size());
    for (std::ptrdiff_t end = run.rows; end > 0;) {
        const std::ptrdiff_t first = std::max<std::ptrdiff_t>(end - kSegmentRows, 0);
        OuterRow* row = worker.outer_rows.data();
        float* d = worker.d.data();
        for (std::ptrdiff_t r = end - 1; r >= first; --r, d += stride) {
            std::copy_n(gradients.y + r * run.outputs + share.first, share.size(), d);
            *row++ = {d, {run.x + r * run.inputs}};
        }
        const OuterRow* const rows = worker.outer_rows.data();
        const std::ptrdiff_t count = end - first;
        if (weight != nullptr) table.outer(rows, count, {0, share.size(), {run.inputs}, {weight}}, worker.outer.data());
        if (bias != nullptr) table.column_sums(rows, count, {0, share.size(), {1}, {bias}}, nullptr);
        if (!part.pass(static_cast<double>(share.size()) * static_cast<double>(run.inputs * count))) return false;
        end = first;
    }
    return true;
}

void reserve_products(TrainingSpace::Worker& worker, std::ptrdiff_t rows) {
    grow(worker.linear_rows, std::min(kProjectionRows, rows));
}

}    // namespace

void run_linear_forward(const LinearTraining& run, float* y, const KernelTable& table, TrainingSpace& space,
                        int num_threads, Checkpoint* checkpoint) {
    const Product product(table, run.inputs, run.outputs, {run.weight, run.inputs, 1}, run.bias, space);
    share_rows(run.rows, num_threads, space, checkpoint, reserve_products,
               [&](const TeamPart& part, TrainingSpace::Worker& worker) {
                   (void)product.run(run.x, y, Rows(run.rows, part), part, worker);
               });
}

void run_linear_backward(const LinearTraining& run, const LinearGradients& gradients, const KernelTable& table,
                         TrainingSpace& space, int num_threads, Checkpoint* checkpoint) {
    std::optional<Product> by_x;
    if (gradients.x != nullptr)
        by_x.emplace(table, run.outputs, run.inputs, StridedMatrix{run.weight, 1, run.inputs}, nullptr, space);
    const bool has_sums = gradients.weight != nullptr || gradients.bias != nullptr;
    const auto reserve = [&](TrainingSpace::Worker& worker, std::ptrdiff_t rows) {
        reserve_products(worker, rows);
        if (!has_sums) return;
        const std::ptrdiff_t segment = std::min(kSegmentRows, run.rows);
        grow(worker.outer_rows, segment);
        grow(worker.d, segment, d_floats(run.outputs));
        grow(worker.outer, OuterShape::scratch(segment, run.inputs));
    };
    share_rows(run.rows, num_threads, space, checkpoint, reserve,
               [&](const TeamPart& part, TrainingSpace::Worker& worker) {
                   if (by_x && !by_x->run(gradients.y, gradients.x, Rows(run.rows, part), part, worker)) return;
                   if (has_sums) (void)add_sums(run, gradients, table, part, worker);
               });
}

}    // namespace fusedcell
