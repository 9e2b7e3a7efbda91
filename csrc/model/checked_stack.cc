#include "model/checked_stack.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <numeric>
#include <stdexcept>

#include "kernels/simd/float_mode.h"
#include "model/message.h"
#include "model/names.h"

namespace fusedcell {
namespace {

[[noreturn]] void refuse(Message parts) { throw std::invalid_argument(joined(parts)); }

std::vector<const NamedMatrix*> matrices_of(const NamedCell& cell) {
    std::vector<const NamedMatrix*> all{&cell.weight_ih, &cell.weight_hh};
    if (cell.weight_hr) all.push_back(&*cell.weight_hr);
    return all;
}

std::ptrdiff_t size_of(const Shape& shape) {
    return std::accumulate(shape.begin(), shape.end(), std::ptrdiff_t{1}, std::multiplies<>());
}

void check_values(const NamedMatrix& matrix) {
    const WeightType type = matrix.type;
    const NamedArray& array = matrix.values;
    array.expect_finite();
    if (!matrix.scales && type == WeightType::float32) return;
    const std::ptrdiff_t size = size_of(array.shape);
    const std::ptrdiff_t depth = array.shape[1];
    const auto refuse_value = [&](std::ptrdiff_t index, const std::string& expected) {
        refuse({array.name, ": expected ", expected, ", got ", number_text(static_cast<double>(array.data[index])),
                " at index (", std::to_string(index / depth), ", ", std::to_string(index % depth), ")"});
    };
    for (std::ptrdiff_t i = 0; i < size; ++i) {
        const float value = array.data[i];
        if (!matrix.scales) {
            if (!fits(type, value)) refuse_value(i, std::string("weights that ") + name_of(type) + " can hold");
        } else if (std::nearbyint(value) != value || std::fabs(value) > 127.0F) {
            refuse_value(i, "whole numbers from -127 to 127");
        } else if (matrix.scales->data[i / depth] == 0.0F && value != 0.0F) {
            refuse_value(i, "zero, as the row's scale is zero");
        }
    }
}

void check_scales(const NamedMatrix& matrix) {
    if (!matrix.scales) return;
    const NamedArray& scales = *matrix.scales;
    if (!is_quantised(matrix.type)) refuse({scales.name, ": only int8 weights have scales"});
    scales.expect_shape({matrix.values.shape[0]});
    for (std::ptrdiff_t i = 0; i < scales.shape[0]; ++i) {
        const float scale = scales.data[i];
        // 2^-100 / 127, below which a row counts as zero, is a little more than 2^-107.
        if (scale == 0.0F || (scale >= 0x1p-107F && std::isfinite(127.0F * scale))) continue;
        refuse({scales.name, ": expected 0 or a scale from 2^-107 on, of which 127 times is finite, got ",
                number_text(static_cast<double>(scale)), " at index ", std::to_string(i)});
    }
}

void expect_matrix(const NamedArray& array, const std::string& expected) {
    if (array.shape.size() != 2 || array.shape[0] < 1 || array.shape[1] < 1) {
        refuse({shape_error(array.name, expected, to_text(array.shape))});
    }
}

Geometry infer_geometry(CellKind kind, const NamedCell& first, std::ptrdiff_t layers, const StackOptions& options) {
    const int gates = gates_of(kind);
    const std::string rows = gates == 1 ? "hidden_size" : std::to_string(gates) + " * hidden_size";
    const NamedArray& weight_ih = first.weight_ih.values;
    expect_matrix(weight_ih, "(" + rows + ", input_size)");
    if (weight_ih.shape[0] % gates != 0) {
        refuse({shape_error(weight_ih.name, "(" + rows + ", input_size)", to_text(weight_ih.shape))});
    }
    Geometry geometry{kind,           weight_ih.shape[1], weight_ih.shape[0] / gates, 0, layers, options.num_directions,
                      options.reverse};
    if (first.weight_hr) {
        if (kind != CellKind::kLstm) refuse({first.weight_hr->values.name, ": only the LSTM has a projection"});
        expect_matrix(first.weight_hr->values, "(proj_size, hidden_size)");
        geometry.proj_size = first.weight_hr->values.shape[0];
    }
    if (first.weight_peephole && kind != CellKind::kLstm) {
        refuse({first.weight_peephole->name, ": only the LSTM has peepholes"});
    }
    return geometry;
}

void check_peephole(const Geometry& geometry, const NamedCell& cell, bool expected) {
    if (cell.weight_peephole && !expected) {
        refuse({cell.weight_peephole->name, ": unexpected, other layers have no peepholes"});
    }
    if (!cell.weight_peephole && expected) {
        refuse({"weight_peephole", cell.suffix, ": missing, but other layers have peepholes"});
    }
    if (cell.weight_peephole) cell.weight_peephole->expect_shape({3 * geometry.hidden_size});
}

// What is packed is the sum of both biases, but for the candidate of a GRU that resets after.
void check_biases(const Geometry& geometry, const NamedCell& cell) {
    if (cell.bias_ih) cell.bias_ih->expect_finite();
    if (cell.bias_hh) cell.bias_hh->expect_finite();
    if (!cell.bias_ih || !cell.bias_hh) return;
    const std::ptrdiff_t added = (geometry.kind == CellKind::kGruResetAfter ? 2 : gates_of(geometry.kind));
    for (std::ptrdiff_t i = 0; i < added * geometry.hidden_size; ++i) {
        const float ih = cell.bias_ih->data[i];
        const float hh = cell.bias_hh->data[i];
        if (std::isfinite(ih + hh)) continue;
        refuse({cell.bias_ih->name, ": expected a finite sum with ", cell.bias_hh->name, ", got ",
                number_text(static_cast<double>(ih)), " + ", number_text(static_cast<double>(hh)), " at index ",
                std::to_string(i)});
    }
}

void check_shapes(const Geometry& geometry, std::ptrdiff_t input_size, const NamedCell& cell) {
    const std::ptrdiff_t rows = gates_of(geometry.kind) * geometry.hidden_size;
    cell.weight_ih.values.expect_shape({rows, input_size});
    cell.weight_hh.values.expect_shape({rows, geometry.output_size()});
    if (cell.bias_ih) cell.bias_ih->expect_shape({rows});
    if (cell.bias_hh) cell.bias_hh->expect_shape({rows});
    if (cell.weight_hr) {
        cell.weight_hr->values.expect_shape({geometry.proj_size, geometry.hidden_size});
    } else if (geometry.proj_size > 0) {
        refuse({"weight_hr", cell.suffix, ": missing, but other layers have a projection"});
    }
    if (cell.weight_hr && geometry.proj_size == 0) {
        refuse({cell.weight_hr->values.name, ": unexpected, other layers have no projection"});
    }
}

// As Stack takes them: none, or one a layer that int8 can use.
std::vector<float> checked_input_scales(const std::vector<double>& scales, std::ptrdiff_t num_layers,
                                        const std::vector<CellWeights>& weights,
                                        const std::vector<std::string>& suffixes) {
    if (scales.empty()) return {};
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const WeightType type = weights[i].weight_ih.type;
        if (is_quantised(type)) continue;
        refuse({"input_scales: only int8 has them, not ", name_of(type), ", which weight_ih", suffixes[i], " is in"});
    }
    if (scales.size() != static_cast<std::size_t>(num_layers)) {
        refuse({"input_scales: expected one a layer, ", std::to_string(num_layers), ", got ",
                std::to_string(scales.size())});
    }
    const ScopedFloatMode mode(kStandardFloatMode);
    for (const double scale : scales) {
        if (scale >= 0x1p-100 && scale <= 0x1p100) continue;
        refuse({"input_scales: expected scales from 2^-100 to 2^100, got ", number_text(scale)});
    }
    return {scales.begin(), scales.end()};
}

}    // namespace

void NamedArray::expect_shape(const Shape& expected) const {
    if (shape != expected) refuse({shape_error(name, to_text(expected), to_text(shape))});
}

void NamedArray::expect_finite() const {
    constexpr std::uint32_t kExponent = 0x7f800000U;
    const std::ptrdiff_t size = size_of(shape);
    std::ptrdiff_t not_finite = 0;
    for (std::ptrdiff_t i = 0; i < size; ++i) {
        std::uint32_t bits;
        std::memcpy(&bits, data + i, sizeof bits);
        not_finite += (bits & kExponent) == kExponent ? 1 : 0;
    }
    if (not_finite == 0) return;
    const std::ptrdiff_t nans = std::count_if(data, data + size, [](float value) { return std::isnan(value); });
    std::string counts = nans > 0 ? std::to_string(nans) + " NaN" : "";
    if (nans > 0 && not_finite > nans) counts += " and ";
    if (not_finite > nans) counts += std::to_string(not_finite - nans) + " infinite";
    refuse({name, ": expected finite values, got ", counts, " of ", std::to_string(size)});
}

void NamedMatrix::expect_valid() const {
    check_scales(*this);
    check_values(*this);
}

CellWeights NamedCell::view() const {
    const auto data = [](const std::optional<NamedArray>& array) { return array ? array->data : nullptr; };
    return {weight_ih.view(),
            weight_hh.view(),
            data(bias_ih),
            data(bias_hh),
            weight_hr ? weight_hr->view() : MatrixView{},
            data(weight_peephole),
            options};
}

std::shared_ptr<Stack> checked_astype(const Stack& stack, const std::vector<CellTypes>& types,
                                      const std::vector<double>& input_scales,
                                      const std::vector<std::string>& suffixes) {
    const Geometry& geometry = stack.geometry();
    if (suffixes.size() != stack.num_cells() || types.size() != stack.num_cells()) {
        refuse({"types, suffixes: expected one per layer and direction"});
    }
    const ScopedFloatMode mode;    // for the scales that weights are multiplied by; as Stack's constructor
    std::vector<UnpackedCell> cells = stack.unpack();
    std::vector<CellWeights> weights;
    weights.reserve(cells.size());
    for (std::size_t i = 0; i < cells.size(); ++i) {
        UnpackedCell& cell = cells[i];
        const auto check = [&](const char* name, UnpackedMatrix& matrix, WeightType type, std::ptrdiff_t depth) {
            matrix.type = type;
            if (is_quantised(type) && !matrix.scales.empty()) return;    // they stay as they are
            matrix.dequantise();
            const std::ptrdiff_t rows = static_cast<std::ptrdiff_t>(matrix.values.size()) / depth;
            check_values({{name + suffixes[i], matrix.values.data(), {rows, depth}}, std::nullopt, type});
        };
        const std::ptrdiff_t layer = static_cast<std::ptrdiff_t>(i) / geometry.num_directions;
        check("weight_ih", cell.weight_ih, types[i].weight_ih, geometry.layer_input_size(layer));
        check("weight_hh", cell.weight_hh, types[i].weight_hh, geometry.output_size());
        check("weight_hr", cell.weight_hr, types[i].weight_hr, geometry.hidden_size);
        weights.push_back(cell.view());
    }
    return std::make_shared<Stack>(geometry, weights, stack.kernels(),
                                   checked_input_scales(input_scales, geometry.num_layers, weights, suffixes));
}

std::shared_ptr<Stack> make_checked_stack(CellKind kind, const std::vector<NamedCell>& cells,
                                          const KernelTable& kernels, const StackOptions& options) {
    const ScopedFloatMode mode(kStandardFloatMode);    // the caller's may flush or trap what checks compare
    if (options.reverse && options.num_directions == 2) refuse({"reverse: expected False with two directions"});
    const auto layers = static_cast<std::ptrdiff_t>(cells.size()) / options.num_directions;
    const Geometry geometry = infer_geometry(kind, cells[0], layers, options);
    std::vector<CellWeights> weights;
    std::vector<std::string> suffixes;
    weights.reserve(cells.size());
    for (std::size_t i = 0; i < cells.size(); ++i) {
        const std::ptrdiff_t layer = static_cast<std::ptrdiff_t>(i) / options.num_directions;
        const NamedCell& cell = cells[i];
        check_shapes(geometry, geometry.layer_input_size(layer), cell);
        check_peephole(geometry, cell, cells[0].weight_peephole.has_value());
        check_biases(geometry, cell);
        if (cell.weight_peephole) cell.weight_peephole->expect_finite();
        for (const NamedMatrix* matrix : matrices_of(cell)) {
            matrix->expect_valid();
        }
        weights.push_back(cell.view());
        suffixes.push_back(cell.suffix);
    }
    return std::make_shared<Stack>(geometry, weights, kernels,
                                   checked_input_scales(options.input_scales, layers, weights, suffixes));
}

}    // namespace fusedcell
