// Packing a cell's weights, and taking them back out.
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "cpu/dispatch.h"
#include "model/cell_options.h"
#include "model/names.h"
#include "model/packed_cell.h"

namespace fusedcell {
namespace {

constexpr int kGateN = 2;
constexpr int kPeepholes = 3;    // i f o

float at_or_zero(const float* values, std::ptrdiff_t index) { return values == nullptr ? 0.0F : values[index]; }

SourceRow source_row(const MatrixView& matrix, std::ptrdiff_t row, std::ptrdiff_t depth, float initial) {
    return {matrix.values + row * depth, initial, at_or_zero(matrix.scales, row)};
}

// Which unit the i-th peephole weight in panel order belongs to, and where in (3 * hidden_size,) it comes from.
struct PeepholePlace {
    std::ptrdiff_t unit;
    std::ptrdiff_t row;
};

PeepholePlace peephole_place(std::ptrdiff_t i, std::ptrdiff_t hidden, std::ptrdiff_t lanes) {
    const std::ptrdiff_t unit = i / (kPeepholes * lanes) * lanes + i % lanes;
    return {unit, i / lanes % kPeepholes * hidden + unit};
}

}    // namespace

PackedCell::PackedCell(const Geometry& geometry, std::ptrdiff_t input_size, const CellWeights& weights, WeightType type,
                       float input_scale, const KernelTable& table)
    : table_(&table),
      kernels_(&kernels_for(table, type)),
      type_(type),
      geometry_(geometry),
      kind_(geometry.kind),
      options_(weights.options.value_or(usual_options(geometry.kind))),
      bounded_(is_bounded(geometry.kind, options_)),
      input_size_(input_size),
      input_scale_{input_scale > 0.0F ? InputScale::kFixed : InputScale::kLargest, input_scale} {
    options_.peephole = weights.weight_peephole;    // until it is packed
    const std::optional<CellKind> plain = plain_kind(geometry.kind, options_);
    kind_ = plain.value_or(geometry.kind);
    general_ = !plain;
    check_built();
    padded_hidden_ = panels_for(geometry.hidden_size, table.lanes) * table.lanes;
    projection_floats_ = padded_hidden_ * gates_of(kind_);
    pack(weights);
}

void PackedCell::check_built() const {
    const auto refuse = [](const std::string& what) {
        throw std::invalid_argument("this build of fusedcell leaves out " + what);
    };
    if (kernels_->linear.run == nullptr) refuse(std::string(name_of(type_)) + " weights");
    if (general_ && gate_kernel() == nullptr) refuse("cells with options");
    if (!general_ && recurrent_kernel().run == nullptr) refuse(std::string("cells of kind ") + name_of(kind_));
}

void PackedCell::pack(const CellWeights& weights) {
    const std::ptrdiff_t hidden = geometry_.hidden_size;
    const std::ptrdiff_t recurrent_depth = geometry_.output_size();
    const int lanes = table_->lanes;
    const int gates = gates_of(kind_);

    // The GRU with reset_after multiplies b_hn by r, so it starts the chain of R_n instead of joining the input's bias.
    const bool separate_candidate_bias = kind_ == CellKind::kGruResetAfter;
    const auto input_row = [&](int gate, std::ptrdiff_t unit) {
        const std::ptrdiff_t row = gate * hidden + unit;
        const float recurrent_bias =
            separate_candidate_bias && gate == kGateN ? 0.0F : at_or_zero(weights.bias_hh, row);
        return source_row(weights.weight_ih, row, input_size_, at_or_zero(weights.bias_ih, row) + recurrent_bias);
    };
    const auto recurrent_row = [&](int gate, std::ptrdiff_t unit) {
        const std::ptrdiff_t row = gate * hidden + unit;
        const float initial = separate_candidate_bias && gate == kGateN ? at_or_zero(weights.bias_hh, row) : 0.0F;
        return source_row(weights.weight_hh, row, recurrent_depth, initial);
    };
    const auto candidate_row = [&](int, std::ptrdiff_t unit) { return recurrent_row(kGateN, unit); };
    const auto output_row = [&](int, std::ptrdiff_t unit) { return source_row(weights.weight_hr, unit, hidden, 0.0F); };

    struct Part {
        PackedMatrix* matrix;
        PanelShape shape;
        std::vector<SourceRow> rows;
        std::ptrdiff_t depth;
        std::ptrdiff_t columns;
    };
    std::vector<Part> parts;
    parts.push_back({&input_, shape_of(kernels_->linear), panel_order(hidden, gates, lanes, input_row), input_size_,
                     projection_floats_});
    // Gate kernels read whole panels of sums, so `linear` stores all of them.
    parts.push_back({&recurrent_, recurrent_shape(), panel_order(hidden, recurrent_gates(), lanes, recurrent_row),
                     recurrent_depth, general_ ? padded_hidden_ * recurrent_gates() : hidden});
    if (kind_ == CellKind::kGruResetBefore) {
        parts.push_back({&candidate_, candidate_shape(), panel_order(hidden, 1, lanes, candidate_row), recurrent_depth,
                         general_ ? padded_hidden_ : hidden});
    }
    if (geometry_.proj_size > 0) {
        parts.push_back({&output_, shape_of(kernels_->linear), panel_order(geometry_.proj_size, 1, lanes, output_row),
                         hidden, geometry_.proj_size});
    }

    std::ptrdiff_t size = 0;
    for (Part& part : parts) {
        part.matrix->panels = static_cast<std::ptrdiff_t>(part.rows.size()) / part.shape.gates / lanes;
        part.matrix->blocks = (part.matrix->panels + part.shape.panels_per_block - 1) / part.shape.panels_per_block;
        part.matrix->depth = part.depth;
        part.matrix->columns = part.columns;
        size = sum_of(size, to_size(packed_size(part.shape, part.matrix->panels, part.depth)));
        matrix_nbytes_ += packed_weights_size(part.shape, part.matrix->panels, part.depth);
    }
    const bool has_peephole = options_.peephole != nullptr;
    if (has_peephole) size = sum_of(size, product_of(kPeepholes, padded_hidden_, sizeof(float)));
    memory_ = AlignedBuffer(static_cast<std::size_t>(size));
    unsigned char* destination = memory_.data();
    for (const Part& part : parts) {
        fusedcell::pack(part.shape, part.rows, part.depth, destination);
        part.matrix->data = destination;
        destination += packed_size(part.shape, part.matrix->panels, part.depth);
    }
    if (has_peephole) {
        auto* peephole = reinterpret_cast<float*>(destination);
        pack_peephole(weights.weight_peephole, peephole);
        options_.peephole = peephole;
    }
}

void PackedCell::pack_peephole(const float* weights, float* destination) const {
    for (std::ptrdiff_t i = 0; i < kPeepholes * padded_hidden_; ++i) {
        const auto [unit, row] = peephole_place(i, geometry_.hidden_size, table_->lanes);
        destination[i] = unit < geometry_.hidden_size ? weights[row] : 0.0F;
    }
}

MatrixView UnpackedMatrix::view() const {
    return {values.empty() ? nullptr : values.data(), scales.empty() ? nullptr : scales.data()};
}

void UnpackedMatrix::dequantise() {
    if (scales.empty()) return;
    const std::size_t depth = values.size() / scales.size();
    for (std::size_t i = 0; i < values.size(); ++i) values[i] *= scales[i / depth];
    scales.clear();
}

CellWeights UnpackedCell::view() const {
    return {weight_ih.view(), weight_hh.view(), bias_ih.data(),
            bias_hh.data(),   weight_hr.view(), weight_peephole.empty() ? nullptr : weight_peephole.data(),
            options};
}

UnpackedCell PackedCell::unpack() const {
    const std::ptrdiff_t hidden = geometry_.hidden_size;
    const std::ptrdiff_t lanes = table_->lanes;
    const std::ptrdiff_t rows = gates_of(kind_) * hidden;
    UnpackedCell cell;
    cell.options = options_;
    cell.options.peephole = nullptr;
    const auto resize = [this](UnpackedMatrix& matrix, std::ptrdiff_t matrix_rows, std::ptrdiff_t depth) {
        matrix.values.resize(count_of<float>(matrix_rows, depth));
        if (type_ == WeightType::int8) matrix.scales.resize(count_of<float>(matrix_rows));
    };
    resize(cell.weight_ih, rows, input_size_);
    resize(cell.weight_hh, rows, geometry_.output_size());
    if (geometry_.proj_size > 0) resize(cell.weight_hr, geometry_.proj_size, hidden);
    cell.bias_ih.resize(static_cast<std::size_t>(rows));
    cell.bias_hh.resize(static_cast<std::size_t>(rows));

    // Panel order back to rows of PyTorch's layout, leaving out the padding of the last panel.
    const auto read = [lanes](const PackedMatrix& matrix, const PanelShape& shape, int gates, int first_gate,
                              std::ptrdiff_t units, UnpackedMatrix& destination, std::vector<float>* bias) {
        const UnpackedRows source = fusedcell::unpack(shape, matrix);
        for (std::size_t r = 0; r < source.initial.size(); ++r) {
            const auto index = static_cast<std::ptrdiff_t>(r);
            const std::ptrdiff_t unit = index / (gates * lanes) * lanes + index % lanes;
            const std::ptrdiff_t row = (first_gate + index / lanes % gates) * units + unit;
            if (unit >= units) continue;
            std::copy_n(source.weights.begin() + index * matrix.depth, matrix.depth,
                        destination.values.begin() + row * matrix.depth);
            if (!source.scales.empty()) destination.scales[static_cast<std::size_t>(row)] = source.scales[r];
            if (bias != nullptr) (*bias)[static_cast<std::size_t>(row)] = source.initial[r];
        }
    };
    read(input_, shape_of(kernels_->linear), gates_of(kind_), 0, hidden, cell.weight_ih, &cell.bias_ih);
    read(recurrent_, recurrent_shape(), recurrent_gates(), 0, hidden, cell.weight_hh, &cell.bias_hh);
    if (kind_ == CellKind::kGruResetBefore) {
        read(candidate_, candidate_shape(), 1, kGateN, hidden, cell.weight_hh, nullptr);
    }
    if (geometry_.proj_size > 0) {
        read(output_, shape_of(kernels_->linear), 1, 0, geometry_.proj_size, cell.weight_hr, nullptr);
    }
    if (options_.peephole != nullptr) {
        cell.weight_peephole.resize(static_cast<std::size_t>(kPeepholes * hidden));
        for (std::ptrdiff_t i = 0; i < kPeepholes * padded_hidden_; ++i) {
            const auto [unit, row] = peephole_place(i, hidden, lanes);
            if (unit < hidden) cell.weight_peephole[static_cast<std::size_t>(row)] = options_.peephole[i];
        }
    }
    return cell;
}

}    // namespace fusedcell
