// One matrix and what its sums start from, y = b + W x, packed for the kernels of one tier in a weight type of its own.
// Layers are made of such matrices and of what comes between them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "cpu/dispatch.h"
#include "kernels/kept.h"
#include "kernels/kernel_api.h"
#include "pack/pack.h"
#include "pack/sizes.h"

namespace fusedcell {

// A matrix, row-major, and the type to pack it in. With scales, one a row, it is quantised already, and so is its type:
// its values are whole numbers in [-127, 127], and the matrix they stand for has the rows scales[r] * values[r].
struct MatrixView {
    const float* values = nullptr;
    const float* scales = nullptr;
    WeightType type = WeightType::float32;
};

// The same, owned.
struct UnpackedMatrix {
    std::vector<float> values;
    std::vector<float> scales;    // empty where the values are not quantised
    WeightType type = WeightType::float32;

    MatrixView view() const;
    void dequantise();
};

// Inputs as quantised weights want them, and where those of a row are that are not zero; of other matrices it stays
// empty.
struct InputSpace {
    std::vector<float> quantised;    // QuantisedInputs, in floats for their alignment
    std::vector<QuantiseRow> rows;
    std::vector<std::uint16_t> places;
    NonzeroInput nonzero{};

    std::size_t nbytes() const { return bytes_of(quantised, rows, places); }
};

// A kernel by its name, whatever the type of its weights.
template <class Row>
using KernelName = MatrixKernel<Row> WeightKernels::*;

class PackedLinear {
public:
    /// No matrix: it takes no memory, and nothing can be multiplied by it.
    PackedLinear() = default;

    /// Outputs are `gates` of each of `units` units, of which the kernel stores `columns`. A kernel of cells takes all
    /// gates of a panel's units together, and `linear` takes panels of one gate. This build has the kernel. Blocks have
    /// `panels_per_block` panels, or if that is 0 as many as the kernel likes.
    template <class Row>
    PackedLinear(const KernelTable& table, WeightType type, KernelName<Row> kernel, int gates, std::ptrdiff_t units,
                 std::ptrdiff_t depth, std::ptrdiff_t columns, int panels_per_block = 0)
        : kernels_(&kernels_for(table, type)),
          quantise_(type == WeightType::int8_int16 ? table.quantise_int16 : table.quantise),
          shape_(type, table, kernels_->*kernel),
          gates_(gates),
          units_(units),
          matrix_{nullptr, panels_for(units, table.lanes) * gates / shape_.gates, 0, depth, columns, 0, 0} {
        if (panels_per_block > 0) shape_.panels_per_block = panels_per_block;
        matrix_.panels_per_block = shape_.panels_per_block;
        matrix_.block_bytes = static_cast<std::ptrdiff_t>(packed_size(shape_, shape_.panels_per_block, depth));
        matrix_.blocks = (matrix_.panels + shape_.panels_per_block - 1) / shape_.panels_per_block;
    }

    /// The same of a matrix whose zero blocks are not stored, for `linear`; row(gate, unit) as in pack().
    template <class RowOfGate>
    static PackedLinear sparse(const KernelTable& table, WeightType type, int gates, std::ptrdiff_t units,
                               std::ptrdiff_t depth, std::ptrdiff_t columns, RowOfGate row) {
        PackedLinear linear(table, type, &WeightKernels::sparse, gates, units, depth, columns);
        std::vector<SourceRow> rows;
        for (int gate = 0; gate < gates; ++gate) {
            for (std::ptrdiff_t unit = 0; unit < units; ++unit) rows.push_back(row(gate, unit));
        }
        linear.pack_sparse(rows);
        return linear;
    }

    /// Whether so few blocks of a matrix (gates * units, depth), or of a part of it, have weights that it is better to
    /// store those alone. The answer is the same on all tiers, so it may decide which inputs an infinity meets.
    static bool pays_sparse(const KernelTable& table, const MatrixView& matrix, int gates, std::ptrdiff_t units,
                            std::ptrdiff_t depth) {
        return kKeepsSparse && is_sparse_enough(table, matrix, gates, units, depth);
    }

    explicit operator bool() const { return kernels_ != nullptr; }
    bool is_sparse() const { return kKeepsSparse && is_sparse_; }
    WeightType type() const { return shape_.type; }
    QuantiseKernel quantise() const { return quantise_; }
    const PanelShape& shape() const { return shape_; }
    std::ptrdiff_t panels() const { return matrix_.panels; }
    std::ptrdiff_t blocks() const { return matrix_.blocks; }
    std::ptrdiff_t depth() const { return matrix_.depth; }

    /// Bytes of the packed matrix, and those of them that are weights, with what pads these to whole vectors.
    std::size_t nbytes() const {
        return is_sparse() ? sparse_nbytes_ : *this ? packed_size(shape_, matrix_.panels, matrix_.depth) : 0;
    }
    std::size_t weights_nbytes() const {
        return is_sparse() ? sparse_weights_size(shape_, sparse_entries_)
               : *this     ? packed_weights_size(shape_, matrix_.panels, matrix_.depth)
                           : 0;
    }
    /// Multiply-adds of one row.
    double operations() const;
    /// The part of its blocks that is stored; 1 where it is not sparse.
    double density() const { return density_; }
    int gates() const { return gates_; }

    /// Packs to `destination`, nbytes() aligned as blocks are, which is to outlive this; returns its end. `row(gate,
    /// unit)` gives the SourceRow of an output.
    template <class RowOfGate>
    unsigned char* pack(RowOfGate row, unsigned char* destination) {
        matrix_.data = destination;
        if (is_sparse()) {
            std::copy(sparse_.begin(), sparse_.end(), destination);
            sparse_ = {};
        } else if (*this)
            fusedcell::pack(shape_, panel_order(units_, gates_, shape_.lanes, row), depth(), destination);
        return destination + nbytes();
    }

    /// The same of float32 weights for `linear`, by their strides: several times as fast.
    unsigned char* pack(const StridedMatrix& matrix, const float* initial, unsigned char* destination) {
        matrix_.data = destination;
        pack_strided(shape_, matrix, gates_, units_, depth(), initial, destination);
        return destination + nbytes();
    }

    /// The weights as they are stored, halves widened to float, as rows `first_gate` * units on of a matrix that has
    /// all of them; and what their sums start from, unless `bias` is null.
    void unpack(int first_gate, UnpackedMatrix& matrix, std::vector<float>* bias) const;

    void reserve(std::ptrdiff_t rows, InputSpace& space) const;

    /// Makes the rows' float inputs what the kernel wants.
    template <class Row>
    void set_inputs(Row* rows, std::ptrdiff_t num_rows, InputScale scale, InputSpace& space) const {
        if (!is_quantised(type())) return;
        for (std::ptrdiff_t r = 0; r < num_rows; ++r) {
            QuantisedInput* q = quantised(r, space);
            space.rows[static_cast<std::size_t>(r)] = {static_cast<const float*>(rows[r].input), q};
            rows[r].input = q;
        }
        quantise_(space.rows.data(), num_rows, depth(), scale);
    }
    /// The same of one input.
    const void* input(const float* x, InputScale scale, InputSpace& space) const {
        if (!is_quantised(type())) return x;
        const QuantiseRow row{x, quantised(0, space)};
        quantise_(&row, 1, depth(), scale);
        return row.q;
    }

    /// From here on zeros among a row's inputs are left out where that is faster: where W is float and large enough.
    /// `row` is that of pack().
    template <class RowOfGate>
    void leave_out_zeros(const KernelTable& table, RowOfGate row) {
        if (!can_leave_out_zeros()) return;
        for (int gate = 0; gate < gates_; ++gate) {
            for (std::ptrdiff_t unit = 0; unit < units_; ++unit) {
                if (!are_finite(type(), row(gate, unit).weights, depth())) return;
            }
        }
        list_ = table.list_nonzeros;
    }
    void keep_zeros() { list_ = nullptr; }
    /// Whether enough of a row's inputs are zero. Then `space.nonzero` is an input of `nonzero`, which gives the bits
    /// that `linear` gives of x.
    bool has_zeros(const float* x, InputSpace& space) const {
        return list_ != nullptr && list_(x, depth(), space.places.data(), &space.nonzero);
    }

    /// `kernel` is the one that it was packed for, or has panels of the same shape.
    template <class Row>
    void run(KernelName<Row> kernel, const Row* rows, std::ptrdiff_t num_rows, const BlockRange& blocks) const {
        if constexpr (std::is_same_v<Row, LinearRow>) {
            if (is_sparse()) kernel = &WeightKernels::sparse;
        }
        (kernels_->*kernel).run(matrix_, rows, num_rows, blocks);
    }

    /// Where a step's kernel leaves the one input of quantised weights; null of others.
    QuantisedInput* room(InputSpace& space) const { return is_quantised(type()) ? quantised(0, space) : nullptr; }
    /// By this matrix and W, which is of the same type and has blocks of the same rows.
    void step(StepKernel kernel, const PackedLinear& input, const StepRow& row, bool backward) const {
        kernel(input.matrix_, matrix_, row, backward);
    }

private:
    QuantisedInput* quantised(std::ptrdiff_t row, InputSpace& space) const {
        return reinterpret_cast<QuantisedInput*>(space.quantised.data() + row * quantised_floats());
    }
    std::ptrdiff_t quantised_floats() const {
        return QuantisedInput::bytes(depth(), planes_of(type())) / static_cast<std::ptrdiff_t>(sizeof(float));
    }

    bool can_leave_out_zeros() const;
    static bool is_sparse_enough(const KernelTable& table, const MatrixView& matrix, int gates, std::ptrdiff_t units,
                                 std::ptrdiff_t depth);
    void pack_sparse(const std::vector<SourceRow>& rows);
    SparseOutputs outputs() const { return {gates_, units_, matrix_.columns}; }

    const WeightKernels* kernels_ = nullptr;
    QuantiseKernel quantise_ = nullptr;
    ListKernel list_ = nullptr;    // null: zeros are inputs as others
    PanelShape shape_;
    int gates_ = 0;
    std::ptrdiff_t units_ = 0;
    PackedMatrix matrix_{};
    bool is_sparse_ = false;
    std::size_t sparse_nbytes_ = 0;
    std::ptrdiff_t sparse_entries_ = 0;
    double density_ = 1;
    std::vector<unsigned char> sparse_;    // until pack() copies it
};

}    // namespace fusedcell
