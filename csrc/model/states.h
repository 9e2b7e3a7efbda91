// The states of a batch of rows, and what they start from.
#pragma once

#include <cstddef>
#include <vector>

#include "model/node.h"

namespace fusedcell {

class States {
public:
    /// All zeros.
    States(const NodeShape& shape, std::ptrdiff_t batch);

    std::ptrdiff_t batch() const { return batch_; }
    float* h() { return h_.values.data(); }                        // (S, B, h_size)
    float* c() { return has_c() ? c_.values.data() : nullptr; }    // (S, B, c_size)
    /// What the states start from, of the same shapes; null: zeros.
    const float* initial_h() const { return h_.initial.empty() ? nullptr : h_.initial.data(); }
    const float* initial_c() const { return c_.initial.empty() ? nullptr : c_.initial.data(); }
    std::size_t h_floats() const { return h_.values.size(); }
    std::size_t c_floats() const { return c_.values.size(); }
    std::size_t nbytes() const;

    /// Where one row lies, which never changes.
    RowState row(std::ptrdiff_t row) { return {h() + row * h_.size, has_c() ? c() + row * c_.size : nullptr, batch_}; }

    /// Makes h and c, of the shapes above, the state to start from, now and after a reset. c is null without a cell
    /// state.
    void start_from(const float* h, const float* c);
    /// Sets the state of one row to what it starts from.
    void reset_row(std::ptrdiff_t row);
    /// Row b goes on from what row rows[b] has had. Allocates.
    void reorder(const std::vector<std::ptrdiff_t>& rows);
    /// Takes the state s of one row towards what it starts from, s_0: factor * s + (1 - factor) * s_0, computed in
    /// double and rounded once.
    void decay_row(std::ptrdiff_t row, double factor);

    /// Of h and c of all layers of one row together: the L2 norm, and whether every value is finite.
    double norm(std::ptrdiff_t row) const;
    bool is_finite(std::ptrdiff_t row) const;

private:
    struct Part {
        std::ptrdiff_t size;    // of one row in one layer
        std::vector<float> values;
        std::vector<float> initial;    // empty: zeros
    };

    bool has_c() const { return c_.size > 0; }
    /// Calls function(part, i) for every index i of the row's values.
    template <class Self, class Function>
    static void for_each(Self& states, std::ptrdiff_t row, const Function& function);

    std::ptrdiff_t layers_;
    std::ptrdiff_t batch_;
    Part h_;
    Part c_;    // of size 0 without a cell state
};

}    // namespace fusedcell
