#include "model/states.h"

#include <algorithm>
#include <cmath>

#include "kernels/simd/float_mode.h"
#include "pack/sizes.h"

namespace fusedcell {

States::States(const NodeShape& shape, std::ptrdiff_t batch)
    : layers_(shape.state_layers), batch_(batch), h_{shape.h_size, {}, {}}, c_{shape.c_size, {}, {}} {
    for (Part* part : {&h_, &c_}) part->values.resize(count_of<float>(layers_, batch_, part->size));
}

std::size_t States::nbytes() const {
    return (h_.values.size() + c_.values.size() + h_.initial.size() + c_.initial.size()) * sizeof(float);
}

void States::start_from(const float* h, const float* c) {
    h_.initial.assign(h, h + h_floats());
    if (has_c()) c_.initial.assign(c, c + c_floats());
    h_.values = h_.initial;
    c_.values = c_.initial;
}

template <class Self, class Function>
void States::for_each(Self& states, std::ptrdiff_t row, const Function& function) {
    for (auto* part : {&states.h_, &states.c_}) {
        for (std::ptrdiff_t layer = 0; layer < states.layers_; ++layer) {
            const std::ptrdiff_t first = (layer * states.batch_ + row) * part->size;
            for (std::ptrdiff_t i = first; i < first + part->size; ++i) function(*part, static_cast<std::size_t>(i));
        }
    }
}

void States::reset_row(std::ptrdiff_t row) {
    for_each(*this, row,
             [](Part& part, std::size_t i) { part.values[i] = part.initial.empty() ? 0 : part.initial[i]; });
}

void States::reorder(const std::vector<std::ptrdiff_t>& rows) {
    const std::vector<float> h = h_.values;    // all that can fail comes before anything changes
    const std::vector<float> c = c_.values;
    const auto move = [&](const std::vector<float>& before, Part& part) {
        float* to = part.values.data();
        for (std::ptrdiff_t layer = 0; layer < layers_; ++layer) {
            for (const std::ptrdiff_t row : rows) {
                to = std::copy_n(before.data() + (layer * batch_ + row) * part.size, part.size, to);
            }
        }
    };
    move(h, h_);
    move(c, c_);
}

void States::decay_row(std::ptrdiff_t row, double factor) {
    const ScopedFloatMode mode(kStandardFloatMode);
    const double left = pinned(factor);
    for_each(*this, row, [left](Part& part, std::size_t i) {
        const double start = part.initial.empty() ? 0 : part.initial[i];
        part.values[i] = static_cast<float>(left * part.values[i] + (1 - left) * start);
    });
}

double States::norm(std::ptrdiff_t row) const {
    const ScopedFloatMode mode(kStandardFloatMode);
    double squares = 0;
    for_each(*this, row, [&](const Part& part, std::size_t i) {
        const double value = part.values[i];
        squares += value * value;
    });
    return pinned(std::sqrt(pinned(squares)));
}

bool States::is_finite(std::ptrdiff_t row) const {
    const ScopedFloatMode mode(kStandardFloatMode);    // a signalling NaN is not to trap
    bool finite = true;
    for_each(*this, row, [&](const Part& part, std::size_t i) { finite = finite && std::isfinite(part.values[i]); });
    return finite;
}

}    // namespace fusedcell
