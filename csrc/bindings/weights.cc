#include "bindings/weights.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "bindings/arrays.h"
#include "cpu/dispatch.h"
#include "kernels/simd/float_mode.h"
#include "model/checked_stack.h"
#include "model/names.h"

namespace fusedcell::bindings {
namespace {

std::optional<FloatArray> optional_array(const py::dict& arrays, const std::string& key, const std::string& suffix) {
    if (!arrays.contains(key.c_str()) || arrays[key.c_str()].is_none()) return std::nullopt;
    return FloatArray(arrays[key.c_str()], key + suffix);
}

FloatArray required_array(const py::dict& arrays, const std::string& key, const std::string& suffix) {
    std::optional<FloatArray> array = optional_array(arrays, key, suffix);
    if (!array) throw py::type_error(key + suffix + ": expected an array of floats, got None");
    return *std::move(array);
}

NamedArray named(const FloatArray& array) { return {array.name(), array.data(), array.shape()}; }

std::optional<NamedArray> named(const std::optional<FloatArray>& array) {
    if (!array) return std::nullopt;
    return named(*array);
}

// The arrays of one layer and direction, kept alive and in float32 until they are packed.
struct CellArrays {
    FloatArray weight_ih, weight_hh;
    std::optional<FloatArray> weight_ih_scale, weight_hh_scale;
    std::optional<FloatArray> bias_ih, bias_hh;
    std::optional<FloatArray> weight_hr, weight_hr_scale;
    std::optional<FloatArray> weight_peephole;
    std::string suffix;

    CellArrays(const py::dict& arrays, const std::string& names_end)
        : weight_ih(required_array(arrays, "weight_ih", names_end)),
          weight_hh(required_array(arrays, "weight_hh", names_end)),
          weight_ih_scale(optional_array(arrays, "weight_ih_scale", names_end)),
          weight_hh_scale(optional_array(arrays, "weight_hh_scale", names_end)),
          bias_ih(optional_array(arrays, "bias_ih", names_end)),
          bias_hh(optional_array(arrays, "bias_hh", names_end)),
          weight_hr(optional_array(arrays, "weight_hr", names_end)),
          weight_hr_scale(optional_array(arrays, "weight_hr_scale", names_end)),
          weight_peephole(optional_array(arrays, "weight_peephole", names_end)),
          suffix(names_end) {}

    void expect_unchanged() const {
        for (const FloatArray* array : {&weight_ih, &weight_hh}) array->expect_unchanged();
        for (const std::optional<FloatArray>* array :
             {&weight_ih_scale, &weight_hh_scale, &bias_ih, &bias_hh, &weight_hr, &weight_hr_scale, &weight_peephole}) {
            if (*array) (*array)->expect_unchanged();
        }
    }

    NamedCell view(const CellTypes& types) const {
        NamedCell cell{suffix,
                       {named(weight_ih), named(weight_ih_scale), types.weight_ih},
                       {named(weight_hh), named(weight_hh_scale), types.weight_hh},
                       named(bias_ih),
                       named(bias_hh),
                       std::nullopt,
                       std::nullopt,
                       std::nullopt};
        if (weight_hr) cell.weight_hr = NamedMatrix{named(*weight_hr), named(weight_hr_scale), types.weight_hr};
        cell.weight_peephole = named(weight_peephole);
        return cell;
    }
};

}    // namespace

WeightType checked_weight_type(const std::string& name) {
    const std::optional<WeightType> type = weight_type_from_name(name);
    if (!type) throw py::value_error("dtype: there is no weight type '" + name + "'");
    return *type;
}

std::vector<CellTypes> to_types(const DtypeArgument& dtype, std::size_t num_cells) {
    if (const auto* name = std::get_if<std::string>(&dtype)) {
        const WeightType type = checked_weight_type(*name);
        return std::vector<CellTypes>(num_cells, CellTypes{type, type, type});
    }
    const auto& cells = std::get<std::vector<Dtypes>>(dtype);
    if (cells.size() != num_cells) throw py::value_error("dtype: expected one dict per layer and direction");
    std::vector<CellTypes> types;
    for (const Dtypes& names : cells) {
        const auto type = [&](const char* matrix) {
            const auto found = names.find(matrix);
            return found == names.end() ? WeightType::float32 : checked_weight_type(found->second);
        };
        types.push_back({type("weight_ih"), type("weight_hh"), type("weight_hr")});
    }
    return types;
}

py::list dtypes_of(const Stack& stack) {
    py::list cells;
    for (std::size_t i = 0; i < stack.num_cells(); ++i) {
        const CellTypes types = stack.types(i);
        py::dict names;
        names["weight_ih"] = name_of(types.weight_ih);
        names["weight_hh"] = name_of(types.weight_hh);
        if (stack.geometry().proj_size > 0) names["weight_hr"] = name_of(types.weight_hr);
        cells.append(names);
    }
    return cells;
}

py::list densities_of(const Stack& stack) {
    py::list cells;
    for (std::size_t i = 0; i < stack.num_cells(); ++i) {
        const CellDensities densities = stack.densities(i);
        py::dict names;
        names["weight_ih"] = densities.weight_ih;
        names["weight_hh"] = densities.weight_hh;
        if (stack.geometry().proj_size > 0) names["weight_hr"] = densities.weight_hr;
        cells.append(names);
    }
    return cells;
}

std::shared_ptr<Stack> make_stack(const std::string& kind_name, const py::list& cells,
                                  const std::vector<std::string>& suffixes, std::ptrdiff_t num_directions,
                                  const DtypeArgument& dtype, const std::string& isa,
                                  const std::vector<double>& input_scales, const std::vector<OptionsTuple>& options,
                                  bool reverse) {
    if (num_directions != 1 && num_directions != 2) throw py::value_error("num_directions: expected 1 or 2");
    if (cells.empty() || cells.size() != suffixes.size() ||
        cells.size() % static_cast<std::size_t>(num_directions) != 0) {
        throw py::value_error("cells: expected one dict and one suffix per layer and direction");
    }
    if (!options.empty() && options.size() != cells.size()) {
        throw py::value_error("options: expected one per layer and direction, " + std::to_string(cells.size()) +
                              ", or none, got " + std::to_string(options.size()));
    }
    const std::optional<CellKind> kind = kind_from_name(kind_name);
    if (!kind) throw py::value_error("kind: there is no cell '" + kind_name + "'");
    const KernelTable& kernels = select_tier(isa);
    const std::vector<CellTypes> types = to_types(dtype, cells.size());
    std::vector<CellArrays> arrays;
    std::vector<NamedCell> named_cells;
    arrays.reserve(cells.size());
    named_cells.reserve(cells.size());
    for (std::size_t i = 0; i < cells.size(); ++i) arrays.emplace_back(cells[i].cast<py::dict>(), suffixes[i]);
    for (std::size_t i = 0; i < cells.size(); ++i) {
        arrays[i].expect_unchanged();
        named_cells.push_back(arrays[i].view(types[i]));
        if (!options.empty()) named_cells.back().options = to_options(*kind, options[i]);
    }
    return make_checked_stack(*kind, named_cells, kernels, {num_directions, reverse, input_scales});
}

py::list arrays_of(const Stack& stack) {
    const Geometry& geometry = stack.geometry();
    const std::ptrdiff_t rows = gates_of(geometry.kind) * geometry.hidden_size;
    const auto to_array = [](const std::vector<float>& values, const Shape& shape) {
        py::object array = new_array(shape);
        std::copy(values.begin(), values.end(), data_of(array));
        return array;
    };
    py::list cells;
    for (const UnpackedCell& cell : stack.unpack()) {
        const std::ptrdiff_t layer = static_cast<std::ptrdiff_t>(cells.size()) / geometry.num_directions;
        py::dict arrays;
        const auto add = [&](const char* name, const UnpackedMatrix& matrix, std::ptrdiff_t matrix_rows,
                             std::ptrdiff_t depth) {
            arrays[name] = to_array(matrix.values, {matrix_rows, depth});
            if (!matrix.scales.empty())
                arrays[py::str(name) + py::str("_scale")] = to_array(matrix.scales, {matrix_rows});
        };
        add("weight_ih", cell.weight_ih, rows, geometry.layer_input_size(layer));
        add("weight_hh", cell.weight_hh, rows, geometry.output_size());
        arrays["bias_ih"] = to_array(cell.bias_ih, {rows});
        arrays["bias_hh"] = to_array(cell.bias_hh, {rows});
        if (geometry.proj_size > 0) add("weight_hr", cell.weight_hr, geometry.proj_size, geometry.hidden_size);
        if (!cell.weight_peephole.empty()) {
            arrays["weight_peephole"] = to_array(cell.weight_peephole, {3 * geometry.hidden_size});
        }
        cells.append(arrays);
    }
    return cells;
}

}    // namespace fusedcell::bindings
