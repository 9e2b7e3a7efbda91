// Source layouts to packed panels (the layout is in kernels/kernel_api.h). Runs once per layer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernel_api.h"
#include "pack/aligned_buffer.h"

namespace fusedcell {

// One output of a matrix: its `depth` weights and where its chain starts. No weights means an output that is zero.
struct SourceRow {
    const float* weights = nullptr;
    float initial = 0.0F;
};

// What a kernel wants of its matrix.
struct PanelShape {
    WeightType type;
    int lanes;
    int gates;
    int panels_per_block;
    bool has_initial_accumulators;

    template <class Row>
    PanelShape(WeightType weight_type, const KernelTable& table, const MatrixKernel<Row>& kernel)
        : type(weight_type),
          lanes(table.lanes),
          gates(kernel.gates),
          panels_per_block(kernel.panels_per_block),
          has_initial_accumulators(kernel.has_initial_accumulators) {}
};

constexpr std::ptrdiff_t panels_for(std::ptrdiff_t units, int lanes) { return (units + lanes - 1) / lanes; }

/// The rows of `units` units in panel order: for each panel, each gate, each lane. `row(gate, unit)` gives a row.
template <class RowOfGate>
std::vector<SourceRow> panel_order(std::ptrdiff_t units, int gates, int lanes, RowOfGate row) {
    std::vector<SourceRow> rows;
    rows.reserve(static_cast<std::size_t>(panels_for(units, lanes) * gates * lanes));
    for (std::ptrdiff_t first = 0; first < units; first += lanes) {
        for (int gate = 0; gate < gates; ++gate) {
            for (int lane = 0; lane < lanes; ++lane) {
                rows.push_back(first + lane < units ? row(gate, first + lane) : SourceRow{});
            }
        }
    }
    return rows;
}

/// Bytes of a packed matrix.
std::size_t packed_size(const PanelShape& shape, std::ptrdiff_t panels, std::ptrdiff_t depth);

/// Writes the rows, a whole number of panels in panel order, to `destination` (packed_size bytes). Weights are rounded
/// to the nearest value of the shape's type, ties to even.
void pack(const PanelShape& shape, const std::vector<SourceRow>& rows, std::ptrdiff_t depth,
          unsigned char* destination);

/// The opposite of pack: `weight(row, k)` and `initial(row)` receive every value, widened to float, with rows numbered
/// in panel order.
template <class Weight, class Initial>
void unpack(const PanelShape& shape, const PackedMatrix& matrix, Weight weight, Initial initial);

/// Whether a finite weight stays finite in this type.
bool fits(WeightType type, float weight);

std::uint16_t to_bfloat16(float value);
std::uint16_t to_float16(float value);

/// A weight of the given type at `source`, as a float.
float widen(WeightType type, const unsigned char* source);

constexpr std::size_t bytes_of(WeightType type) {
    return type == WeightType::float32 ? sizeof(float) : sizeof(std::uint16_t);
}

template <class Weight, class Initial>
void unpack(const PanelShape& shape, const PackedMatrix& matrix, Weight weight, Initial initial) {
    const std::ptrdiff_t rows = matrix.panels * shape.gates * shape.lanes;
    const std::ptrdiff_t rows_per_block = std::ptrdiff_t{shape.panels_per_block} * shape.gates * shape.lanes;
    const auto* source = static_cast<const unsigned char*>(matrix.data);
    for (std::ptrdiff_t first = 0; first < rows; first += rows_per_block) {
        const std::ptrdiff_t last = std::min(first + rows_per_block, rows);
        if (shape.has_initial_accumulators) {
            for (std::ptrdiff_t r = first; r < last; ++r, source += sizeof(float)) {
                initial(r, widen(WeightType::float32, source));
            }
        }
        for (std::ptrdiff_t k = 0; k < matrix.depth; ++k) {
            for (std::ptrdiff_t r = first; r < last; ++r, source += bytes_of(shape.type)) {
                weight(r, k, widen(shape.type, source));
            }
        }
    }
}

}    // namespace fusedcell
