// Source layouts to packed panels (the layout is in kernels/kernel_api.h). Runs once per layer.
#pragma once

#include <cstddef>
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
    int lanes;
    int gates;
    int panels_per_block;
    bool has_initial_accumulators;

    template <class Row>
    PanelShape(const KernelTable& table, const MatrixKernel<Row>& kernel)
        : lanes(table.lanes),
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

std::size_t packed_size(const PanelShape& shape, std::ptrdiff_t panels, std::ptrdiff_t depth);

/// Writes the rows, a whole number of panels in panel order, to `destination` (packed_size floats).
void pack(const PanelShape& shape, const std::vector<SourceRow>& rows, std::ptrdiff_t depth, float* destination);

}    // namespace fusedcell
