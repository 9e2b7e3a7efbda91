// Source layouts to packed panels (the layout is in kernels/kernel_api.h). Runs once per layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernel_api.h"
#include "pack/aligned_buffer.h"
#include "pack/sizes.h"

namespace fusedcell {

// One output of a matrix: its `depth` weights and where its chain starts. No weights means an output that is zero. With
// a scale the weights are quantised already: whole numbers in [-127, 127], to be kept with that scale.
struct SourceRow {
    const float* weights = nullptr;
    float initial = 0.0F;
    float scale = 0.0F;
};

// What a kernel wants of its matrix.
struct PanelShape {
    WeightType type = WeightType::float32;
    int lanes = 1;
    int gates = 1;
    int panels_per_block = 1;
    int group = 1;
    bool has_initial_accumulators = false;
    bool compensated = false;

    PanelShape() = default;

    template <class Row>
    PanelShape(WeightType weight_type, const KernelTable& table, const MatrixKernel<Row>& kernel)
        : type(weight_type),
          lanes(table.lanes),
          gates(kernel.gates),
          panels_per_block(kernel.panels_per_block),
          group(kernel.group),
          has_initial_accumulators(kernel.has_initial_accumulators),
          compensated(kernel.compensated) {}

    std::ptrdiff_t panel_rows() const { return std::ptrdiff_t{gates} * lanes; }
    std::ptrdiff_t block_rows() const { return panels_per_block * panel_rows(); }
    std::ptrdiff_t padded(std::ptrdiff_t depth) const { return (depth + group - 1) / group * group; }
};

constexpr std::ptrdiff_t panels_for(std::ptrdiff_t units, int lanes) { return (units + lanes - 1) / lanes; }

/// The rows of `units` units in panel order: for each panel, each gate, each lane. `row(gate, unit)` gives a row.
template <class RowOfGate>
std::vector<SourceRow> panel_order(std::ptrdiff_t units, int gates, int lanes, RowOfGate row) {
    std::vector<SourceRow> rows;
    rows.reserve(count_of<SourceRow>(panels_for(units, lanes), gates, lanes));
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

/// Those of them that are weights, or pad them to whole vectors and groups.
std::size_t packed_weights_size(const PanelShape& shape, std::ptrdiff_t panels, std::ptrdiff_t depth);

/// Writes the rows, a whole number of panels in panel order, to `destination` (packed_size bytes). Weights are rounded
/// to the nearest value of the shape's type, ties to even; for int8 that is a multiple of the row's scale, max |w| /
/// 127.
void pack(const PanelShape& shape, const std::vector<SourceRow>& rows, std::ptrdiff_t depth,
          unsigned char* destination);

// A matrix of floats by its strides. Row r has the element k at values[r * row_stride + k * stride], and one of the
// strides is 1. The first `rotation` of the elements that are multiplied are the matrix's last.
struct StridedMatrix {
    const float* values;
    std::ptrdiff_t row_stride;
    std::ptrdiff_t stride;
    std::ptrdiff_t rotation = 0;
};

/// What pack() writes of float32 rows of such a matrix in panels of one gate, as training does before every step.
/// Rows are `gates` of each of `units` units, in PyTorch's order; `initial` has as many, or is null. There is one gate
/// where the matrix is not given row by row, or is rotated.
void pack_strided(const PanelShape& shape, const StridedMatrix& matrix, int gates, std::ptrdiff_t units,
                  std::ptrdiff_t depth, const float* initial, unsigned char* destination);

// What a packed matrix holds, widened to float, with rows in panel order.
struct UnpackedRows {
    std::vector<float> weights;    // (rows, depth); for int8 the whole numbers
    std::vector<float> scales;     // (rows,) for int8, else empty
    std::vector<float> initial;    // (rows,), zero where there is none
};

UnpackedRows unpack(const PanelShape& shape, const PackedMatrix& matrix);

constexpr std::ptrdiff_t kQuantisedBlock = 4;    // k of a block of quantised weights; entries of some tiers have more

// Outputs of a sparse matrix (SparseStrip): `gates` of each of `units` units, of which results have room for `columns`.
struct SparseOutputs {
    int gates;
    std::ptrdiff_t units;
    std::ptrdiff_t columns;

    std::ptrdiff_t strips() const { return gates * ((units + kStripUnits - 1) / kStripUnits); }
};

/// The part of its blocks of kStripUnits outputs x `group` k that are not zero. Row `gate * units + unit` of `values`,
/// row-major, is an output.
double density(const float* values, const SparseOutputs& outputs, std::ptrdiff_t depth, std::ptrdiff_t group);

struct SparseMatrix {
    std::vector<unsigned char> bytes;
    std::ptrdiff_t entries;    // that are stored
    double density;            // of the matrix's blocks, of 4 k with quantised weights, those that have any
};

/// A sparse matrix, of rows in the same order.
SparseMatrix pack_sparse(const PanelShape& shape, const SparseOutputs& outputs, const std::vector<SourceRow>& rows,
                         std::ptrdiff_t depth);
/// Bytes of the weights and group numbers of so many entries.
std::size_t sparse_weights_size(const PanelShape& shape, std::ptrdiff_t entries);
UnpackedRows unpack_sparse(const PanelShape& shape, const SparseOutputs& outputs, const PackedMatrix& matrix);

/// A half as it is stored, exactly.
float from_bfloat16(std::uint16_t half);
float from_float16(std::uint16_t half);

/// Whether a finite weight stays so when it is stored: a half must not turn it into infinity.
bool fits(WeightType type, float weight);

/// Whether all of these weights are finite when they are stored.
bool are_finite(WeightType type, const float* weights, std::ptrdiff_t size);

}    // namespace fusedcell
