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

KernelName<CellRow> kernel_of(CellKind kind) {
    switch (kind) {
        case CellKind::kRnnTanh: return &WeightKernels::rnn_tanh;
        case CellKind::kRnnRelu: return &WeightKernels::rnn_relu;
        case CellKind::kLstm: return &WeightKernels::lstm;
        case CellKind::kGruResetAfter: return &WeightKernels::gru_reset_after;
        case CellKind::kGruResetBefore: break;
    }
    return &WeightKernels::gru_reset_before_gates;
}

// Null where a cell has no step in one pass.
StepKernel WeightKernels::* step_of(CellKind kind) {
    switch (kind) {
        case CellKind::kRnnTanh: return &WeightKernels::rnn_tanh_step;
        case CellKind::kRnnRelu: return &WeightKernels::rnn_relu_step;
        case CellKind::kLstm: return &WeightKernels::lstm_step;
        case CellKind::kGruResetAfter: return &WeightKernels::gru_reset_after_step;
        case CellKind::kGruResetBefore: break;
    }
    return nullptr;
}

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

PackedCell::PackedCell(const Geometry& geometry, std::ptrdiff_t input_size, const CellWeights& weights,
                       float input_scale, const KernelTable& table)
    : table_(&table),
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
    recurrent_kernel_ = kernel_of(kind_);
    check_built(weights);
    padded_hidden_ = panels_for(geometry.hidden_size, table.lanes) * table.lanes;
    projection_floats_ = padded_hidden_ * gates_of(kind_);
    pack(weights);
}

void PackedCell::check_built(const CellWeights& weights) const {
    const auto refuse = [](const std::string& what) {
        throw std::invalid_argument("this build of fusedcell leaves out " + what);
    };
    for (const MatrixView* matrix : {&weights.weight_ih, &weights.weight_hh, &weights.weight_hr}) {
        const bool is_built = kernels_for(*table_, matrix->type).linear.run != nullptr;
        if (matrix->values != nullptr && !is_built) refuse(std::string(name_of(matrix->type)) + " weights");
    }
    const WeightKernels& kernels = kernels_for(*table_, weights.weight_hh.type);
    if (general_ && gate_kernel() == nullptr) refuse("cells with options");
    if (!general_ && (kernels.*recurrent_kernel_).run == nullptr) {
        refuse(std::string("cells of kind ") + name_of(kind_));
    }
}

void PackedCell::pack(const CellWeights& weights) {
    const std::ptrdiff_t hidden = geometry_.hidden_size;
    const std::ptrdiff_t recurrent_depth = geometry_.output_size();

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

    const int gates = gates_of(kind_);
    const auto linear = [&](const MatrixView& matrix, int its_gates, std::ptrdiff_t units, std::ptrdiff_t depth,
                            std::ptrdiff_t columns, bool is_sparse, auto row, int block_vectors = 0) {
        if (is_sparse) return PackedLinear::sparse(*table_, matrix.type, its_gates, units, depth, columns, row);
        return PackedLinear(*table_, matrix.type, &WeightKernels::linear, its_gates, units, depth, columns,
                            block_vectors);
    };
    const auto pays_sparse = [&](const MatrixView& matrix, int its_gates, std::ptrdiff_t units, std::ptrdiff_t depth) {
        return PackedLinear::pays_sparse(*table_, matrix, its_gates, units, depth);
    };
    const bool is_sparse = gate_kernel() != nullptr && pays_sparse(weights.weight_hh, gates, hidden, recurrent_depth);
    has_sums_ = general_ || is_sparse;
    // Gate kernels read whole panels of sums, so `linear` stores all of them.
    const auto recurrent = [&](CellKernel kernel, int its_gates, auto row) {
        const MatrixView& matrix = weights.weight_hh;
        return has_sums_
                   ? linear(matrix, its_gates, hidden, recurrent_depth, padded_hidden_ * its_gates, is_sparse, row)
                   : PackedLinear(*table_, matrix.type, kernel, its_gates, hidden, recurrent_depth, hidden);
    };
    recurrent_ = recurrent(recurrent_kernel_, recurrent_gates(), recurrent_row);
    const bool input_is_sparse = pays_sparse(weights.weight_ih, gates, hidden, input_size_);
    const auto step = step_of(kind_);
    if (step != nullptr && !has_sums_ && !input_is_sparse && weights.weight_ih.type == weights.weight_hh.type) {
        step_kernel_ = kernels_for(*table_, weights.weight_hh.type).*step;
    }
    input_ = linear(weights.weight_ih, gates, hidden, input_size_, projection_floats_, input_is_sparse, input_row,
                    step_kernel_ == nullptr ? 0 : recurrent_.shape().panels_per_block * recurrent_.shape().gates);
    if (kind_ == CellKind::kGruResetBefore) candidate_ = recurrent(kCandidateKernel, 1, candidate_row);
    const std::ptrdiff_t projected = geometry_.proj_size;
    if (projected > 0) {
        output_ = linear(weights.weight_hr, 1, projected, hidden, projected,
                         pays_sparse(weights.weight_hr, 1, projected, hidden), output_row);
    }

    std::ptrdiff_t size = 0;
    for (const PackedLinear* matrix : matrices()) size = sum_of(size, to_size(matrix->nbytes()));
    const bool has_peephole = options_.peephole != nullptr;
    if (has_peephole) size = sum_of(size, product_of(kPeepholes, padded_hidden_, sizeof(float)));
    memory_ = AlignedBuffer(static_cast<std::size_t>(size));
    unsigned char* destination = input_.pack(input_row, memory_.data());
    input_.leave_out_zeros(*table_, input_row);
    destination = recurrent_.pack(recurrent_row, destination);
    destination = candidate_.pack(candidate_row, destination);
    destination = output_.pack(output_row, destination);
    if (has_peephole) {
        auto* peephole = reinterpret_cast<float*>(destination);
        pack_peephole(weights.weight_peephole, peephole);
        options_.peephole = peephole;
    }
}

std::size_t PackedCell::matrix_nbytes() const {
    std::size_t total = 0;
    for (const PackedLinear* matrix : matrices()) total += matrix->weights_nbytes();
    return total;
}

CellDensities PackedCell::densities() const {
    const double first = recurrent_.density() * recurrent_.gates();
    const double second = candidate_.density() * candidate_.gates();
    return {input_.density(), (first + second) / (recurrent_.gates() + candidate_.gates()), output_.density()};
}

void PackedCell::pack_peephole(const float* weights, float* destination) const {
    for (std::ptrdiff_t i = 0; i < kPeepholes * padded_hidden_; ++i) {
        const auto [unit, row] = peephole_place(i, geometry_.hidden_size, table_->lanes);
        destination[i] = unit < geometry_.hidden_size ? weights[row] : 0.0F;
    }
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
    cell.bias_ih.resize(static_cast<std::size_t>(rows));
    cell.bias_hh.resize(static_cast<std::size_t>(rows));
    const auto unpack = [](const PackedLinear& matrix, std::ptrdiff_t matrix_rows, UnpackedMatrix& destination,
                           std::vector<float>* bias) {
        destination.values.resize(count_of<float>(matrix_rows, matrix.depth()));
        if (is_quantised(matrix.type())) destination.scales.resize(count_of<float>(matrix_rows));
        matrix.unpack(0, destination, bias);
    };
    unpack(input_, rows, cell.weight_ih, &cell.bias_ih);
    unpack(recurrent_, rows, cell.weight_hh, &cell.bias_hh);
    if (candidate_) candidate_.unpack(kGateN, cell.weight_hh, nullptr);
    if (output_) unpack(output_, geometry_.proj_size, cell.weight_hr, nullptr);
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
