#include "model/packed_linear.h"

#include <algorithm>

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

double PackedLinear::operations() const {
    return static_cast<double>(matrix_.panels * shape_.panel_rows()) * static_cast<double>(depth());
}

void PackedLinear::reserve(std::ptrdiff_t rows, InputSpace& space) const {
    if (!is_quantised(type())) return;
    grow(space.rows, rows);
    grow(space.quantised, rows, quantised_floats());
}

// Panel order back to rows, leaving out the padding of the last panel.
void PackedLinear::unpack(int first_gate, UnpackedMatrix& matrix, std::vector<float>* bias) const {
    matrix.type = type();
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
