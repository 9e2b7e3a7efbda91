#include "model/packed_linear.h"

#include <algorithm>
#include <cstdint>
#include <utility>

namespace fusedcell {

MatrixView UnpackedMatrix::view() const {
    return {values.empty() ? nullptr : values.data(), scales.empty() ? nullptr : scales.data(), type};
}

void UnpackedMatrix::dequantise() {
    if (scales.empty()) return;
    const std::size_t depth = values.size() / scales.size();
    for (std::size_t i = 0; i < values.size(); ++i) values[i] *= scales[i / depth];
    scales.clear();
}

bool PackedLinear::is_sparse_enough(const KernelTable& table, const MatrixView& matrix, int gates, std::ptrdiff_t units,
                                    std::ptrdiff_t depth) {
    constexpr std::ptrdiff_t kMostDepth = std::ptrdiff_t{1} << 16;
    if (matrix.values == nullptr || kernels_for(table, matrix.type).sparse.run == nullptr || depth > kMostDepth) {
        return false;
    }
    // Where a step of an LSTM begins to be faster, measured by bench/sparse.py.
    const bool quantised = is_quantised(matrix.type);
    const std::ptrdiff_t least_weights = std::ptrdiff_t{1} << (quantised ? 15 : 14);
    const double most_density = quantised ? 0.4 : 0.5;
    const std::ptrdiff_t outputs = product_of(gates, units);
    if (product_of(outputs, depth) < least_weights || outputs > INT32_MAX) return false;    // SparseStrip has places
    return fusedcell::density(matrix.values, {gates, units, 0}, depth, quantised ? kQuantisedBlock : 1) <= most_density;
}

void PackedLinear::pack_sparse(const std::vector<SourceRow>& rows) {
    is_sparse_ = true;
    const std::ptrdiff_t strips = outputs().strips();
    matrix_.blocks = (strips + shape_.panels_per_block - 1) / shape_.panels_per_block;
    SparseMatrix matrix = fusedcell::pack_sparse(shape_, outputs(), rows, depth());
    sparse_ = std::move(matrix.bytes);
    sparse_nbytes_ = sparse_.size();
    sparse_entries_ = matrix.entries;
    density_ = matrix.density;
}

double PackedLinear::operations() const {
    if (is_sparse()) return static_cast<double>(sparse_entries_ * kStripUnits * shape_.group);
    return static_cast<double>(matrix_.panels * shape_.panel_rows()) * static_cast<double>(depth());
}

bool PackedLinear::can_leave_out_zeros() const {
    constexpr std::ptrdiff_t kLeastDepth = 32;
    constexpr std::ptrdiff_t kMostDepth = std::ptrdiff_t{1} << 16;
    constexpr double kLeastWeights = 12288;    // to look for zeros would be more than a hundredth of a smaller step
    return !is_sparse() && kernels_->nonzero.run != nullptr && depth() >= kLeastDepth && depth() <= kMostDepth &&
           operations() >= kLeastWeights;
}

void PackedLinear::reserve(std::ptrdiff_t rows, InputSpace& space) const {
    if (list_ != nullptr) grow(space.places, depth());
    if (!is_quantised(type())) return;
    grow(space.rows, rows);
    grow(space.quantised, rows, quantised_floats());
}

// Panel order back to rows, leaving out the padding of the last panel.
void PackedLinear::unpack(int first_gate, UnpackedMatrix& matrix, std::vector<float>* bias) const {
    matrix.type = type();
    if (is_sparse()) {
        const UnpackedRows rows = unpack_sparse(shape_, outputs(), matrix_);
        const std::ptrdiff_t first = first_gate * units_;
        std::copy(rows.weights.begin(), rows.weights.end(), matrix.values.begin() + first * depth());
        std::copy(rows.scales.begin(), rows.scales.end(), matrix.scales.begin() + (rows.scales.empty() ? 0 : first));
        if (bias != nullptr) std::copy(rows.initial.begin(), rows.initial.end(), bias->begin() + first);
        return;
    }
    const UnpackedRows source = fusedcell::unpack(shape_, matrix_);
    const std::ptrdiff_t lanes = shape_.lanes;
    for (std::size_t r = 0; r < source.initial.size(); ++r) {
        const auto index = static_cast<std::ptrdiff_t>(r);
        const std::ptrdiff_t unit = index / (gates_ * lanes) * lanes + index % lanes;
        const auto row = static_cast<std::size_t>((first_gate + index / lanes % gates_) * units_ + unit);
        if (unit >= units_) continue;
        std::copy_n(source.weights.begin() + index * depth(), depth(),
                    matrix.values.begin() + static_cast<std::ptrdiff_t>(row) * depth());
        if (!source.scales.empty()) matrix.scales[row] = source.scales[r];
        if (bias != nullptr) (*bias)[row] = source.initial[r];
    }
}

}    // namespace fusedcell
