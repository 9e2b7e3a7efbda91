// Which tensors a layer has, by their names; their shapes and values are for model/checked_stack.cc, which Python's
// arrays go through too.
#include "load/load.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "cpu/dispatch.h"
#include "fusedcell/fusedcell.h"
#include "load/description.h"
#include "load/safetensors.h"
#include "model/cell_options.h"
#include "model/checked_stack.h"
#include "pack/sizes.h"

namespace fusedcell {
namespace {

constexpr const char* kWeights[] = {"weight_ih", "weight_hh", "weight_hr"};
// They begin alike, whatever the type of the inputs.
constexpr const char* kScales[] = {"weight_ih_scale", "weight_hh_scale", "weight_hr_scale"};
constexpr const char* kInt16Scales[] = {"weight_ih_scale_int16", "weight_hh_scale_int16", "weight_hr_scale_int16"};

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

template <std::size_t Size>
bool starts_with_any(std::string_view text, const char* const (&prefixes)[Size]) {
    return std::any_of(std::begin(prefixes), std::end(prefixes), [&](const char* p) { return starts_with(text, p); });
}

StoredType stored_type_of(WeightType type) {
    switch (type) {
        case WeightType::bfloat16: return StoredType::kBf16;
        case WeightType::float16: return StoredType::kF16;
        case WeightType::int8:
        case WeightType::int8_int16: return StoredType::kI8;
        case WeightType::float32: break;
    }
    return StoredType::kF32;
}

// Without a type, weights may have any.
void check_types(const std::vector<Tensor>& tensors, std::optional<WeightType> type) {
    for (const Tensor& tensor : tensors) {
        const bool is_weight = starts_with_any(tensor.name, kWeights) && !starts_with_any(tensor.name, kScales);
        if (is_weight && !type) continue;
        const StoredType expected = is_weight ? stored_type_of(*type) : StoredType::kF32;
        if (tensor.type != expected) {
            refuse({tensor.name, ": expected dtype ", name_of(expected), ", got ", name_of(tensor.type)});
        }
    }
}

std::vector<std::string> allowed_names(const Description& description) {
    std::vector<std::string> names = {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"};
    if (description.has_peepholes) names.emplace_back("weight_peephole");
    const auto may_have = [&](WeightType type) { return description.type.value_or(type) == type; };    // mixed may
    if (may_have(WeightType::int8)) names.insert(names.end(), std::begin(kScales), std::end(kScales));
    if (may_have(WeightType::int8_int16)) names.insert(names.end(), std::begin(kInt16Scales), std::end(kInt16Scales));
    return names;
}

std::string joined(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

// The layer and direction at the end of a name, _l0, _l0_reverse, _l1, ..., and what is before it.
struct SplitName {
    std::string_view name;
    std::string_view suffix;
};

std::optional<SplitName> split(std::string_view full) {
    constexpr std::string_view kReverse = "_reverse";
    std::string_view rest = full;
    if (rest.size() > kReverse.size() && rest.substr(rest.size() - kReverse.size()) == kReverse) {
        rest.remove_suffix(kReverse.size());
    }
    const std::size_t digits = rest.find_last_not_of("0123456789") + 1;
    const std::string_view number = rest.substr(digits);
    if (number.empty() || (number.size() > 1 && number[0] == '0')) return std::nullopt;
    rest = rest.substr(0, digits);
    constexpr std::string_view kLayer = "_l";
    if (rest.size() <= kLayer.size() || rest.substr(rest.size() - kLayer.size()) != kLayer) return std::nullopt;
    const std::string_view name = rest.substr(0, rest.size() - kLayer.size());
    return SplitName{name, full.substr(name.size())};
}

struct LayerTensors {
    std::vector<std::string> suffixes;
    std::vector<TensorsByName> cells;
    std::ptrdiff_t num_directions;
};

// The tensors of each layer and direction, in the order of packing: all that their names say there must be.
LayerTensors tensors_by_layer(const TensorsByName& tensors, const std::vector<std::string>& allowed) {
    std::map<std::string, TensorsByName, std::less<>> found;
    bool two_directions = false;
    for (const auto& [full, tensor] : tensors) {
        const std::optional<SplitName> parts = split(full);
        if (!parts || std::find(allowed.begin(), allowed.end(), parts->name) == allowed.end()) {
            throw UnsupportedError("'" + full + "' is not an array of this layer; supported: " + joined(allowed) +
                                   ", each followed by _l0, _l0_reverse, _l1, ...");
        }
        found[std::string(parts->suffix)].emplace(parts->name, tensor);
        two_directions = two_directions || parts->suffix.find("_reverse") != std::string_view::npos;
    }
    if (found.empty()) refuse({"weight_ih_l0 is missing"});

    std::set<std::string> first = {"weight_ih", "weight_hh"};
    for (const auto& [name, tensor] : found["_l0"]) {
        if (!starts_with_any(name, kScales)) first.insert(name);    // those are as the type of each matrix wants
    }
    if (found["_l0"].empty()) found.erase("_l0");
    LayerTensors layers{{}, {}, two_directions ? 2 : 1};
    while (layers.cells.size() < found.size() || (two_directions && layers.cells.size() % 2 == 1)) {
        const std::size_t index = layers.cells.size();
        const std::size_t layer = two_directions ? index / 2 : index;
        std::string suffix = "_l" + std::to_string(layer) + (two_directions && index % 2 == 1 ? "_reverse" : "");
        TensorsByName& cell = found[suffix];
        for (const std::string& name : first) {
            const std::string full = name + suffix;
            if (cell.count(name) == 0) refuse({full, " is missing"});
        }
        for (const auto& [name, tensor] : cell) {
            const std::string full = name + suffix;
            if (first.count(name) == 0 && !starts_with_any(name, kScales)) {
                refuse({full, " has no counterpart in layer 0"});
            }
        }
        layers.suffixes.push_back(std::move(suffix));
        layers.cells.push_back(std::move(cell));
    }
    return layers;
}

// The arrays of all cells, and the floats that they borrow.
class Cells {
public:
    explicit Cells(const LayerTensors& layers) {
        for (std::size_t i = 0; i < layers.cells.size(); ++i) add(layers.suffixes[i], layers.cells[i]);
    }
    std::vector<NamedCell>& named() { return named_; }

private:
    void add(const std::string& suffix, const TensorsByName& tensors) {
        const auto array = [&](const std::string& name) -> std::optional<NamedArray> {
            const auto found = tensors.find(name);
            if (found == tensors.end()) return std::nullopt;
            floats_.push_back(found->second->floats());
            return NamedArray{name + suffix, floats_.back().data(), found->second->shape};
        };
        const auto matrix = [&](const std::string& name) -> std::optional<NamedMatrix> {
            std::optional<NamedArray> values = array(name);
            if (!values) return std::nullopt;
            const std::string scale = name + "_scale";
            const bool has_int16_inputs = tensors.count(scale + "_int16") == 1;
            if (has_int16_inputs && tensors.count(scale) == 1) {
                refuse({scale, suffix, ": expected it without ", scale, "_int16", suffix, ", or that alone"});
            }
            const WeightType type = weight_type_of(tensors.at(name)->type, has_int16_inputs);
            std::optional<NamedArray> scales = array(has_int16_inputs ? scale + "_int16" : scale);
            if (is_quantised(type) && !scales) {
                refuse({scale, suffix, " is missing; int8 weights need their scales"});
            }
            return NamedMatrix{*std::move(values), std::move(scales), type};
        };
        const auto required = [&](const std::string& name) {
            std::optional<NamedMatrix> found = matrix(name);
            if (!found) refuse({name, suffix, ": expected an array of floats, got None"});
            return *std::move(found);
        };
        NamedCell cell{suffix,           required("weight_ih"), required("weight_hh"),    array("bias_ih"),
                       array("bias_hh"), matrix("weight_hr"),   array("weight_peephole"), std::nullopt};
        named_.push_back(std::move(cell));
    }

    std::vector<NamedCell> named_;
    std::vector<std::vector<float>> floats_;
};

std::vector<double> input_scales_of(const Tensor* tensor) {
    if (tensor == nullptr) return {};
    if (tensor->shape.size() != 1) refuse({shape_error("input_scales", "(num_layers,)", to_text(tensor->shape))});
    const std::vector<float> scales = tensor->floats();
    std::vector<double> values(count_of<double>(tensor->shape[0]));
    std::copy(scales.begin(), scales.end(), values.begin());
    return values;
}

void set_initial_state(const Tensor* h, const Tensor* c, LoadedLayer& layer) {
    if (h == nullptr) return;
    const Geometry& geometry = layer.stack->geometry();
    if (geometry.has_cell_state() != (c != nullptr)) {
        refuse({c == nullptr ? "initial_c is missing" : "initial_c: only the LSTM has a cell state"});
    }
    const std::ptrdiff_t states = geometry.num_layers * geometry.num_directions;
    const auto rows_of = [](const Tensor& tensor) { return tensor.shape.size() == 3 ? tensor.shape[1] : 1; };
    const std::ptrdiff_t rows = rows_of(*h);
    const auto checked = [&](const Tensor& tensor, std::ptrdiff_t size) {
        if (tensor.shape != Shape{states, rows, size} || rows < 1) {
            const std::string row_text = rows == 0 ? "'batch'" : std::to_string(rows);
            const std::string expected =
                "(" + std::to_string(states) + ", " + row_text + ", " + std::to_string(size) + ")";
            refuse({shape_error(tensor.name, expected, to_text(tensor.shape))});
        }
        std::vector<float> floats = tensor.floats();
        NamedArray{tensor.name, floats.data(), tensor.shape}.expect_finite();
        return floats;
    };
    layer.initial_rows = rows;
    layer.initial_h = checked(*h, geometry.output_size());
    if (c != nullptr) layer.initial_c = checked(*c, geometry.hidden_size);
}

// Of the two plain RNNs the one that the options say, if all cells say the same.
CellKind plain_rnn(CellKind kind, const std::vector<CellOptions>& options) {
    if (activations_of(kind) != 1 || options.empty()) return kind;
    for (const CellKind rnn : {CellKind::kRnnTanh, CellKind::kRnnRelu}) {
        const ActivationKind usual = usual_options(rnn).activations[0].kind;
        const auto says_so = [&](const CellOptions& cell) { return cell.activations[0].kind == usual; };
        if (std::all_of(options.begin(), options.end(), says_so)) return rnn;
    }
    return kind;
}

}    // namespace

const Tensor* take(TensorsByName& tensors, std::string_view name) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) return nullptr;
    const Tensor* tensor = found->second;
    tensors.erase(found);
    return tensor;
}

WeightType weight_type_of(StoredType type, bool has_int16_inputs) {
    switch (type) {
        case StoredType::kBf16: return WeightType::bfloat16;
        case StoredType::kF16: return WeightType::float16;
        case StoredType::kI8: return has_int16_inputs ? WeightType::int8_int16 : WeightType::int8;
        case StoredType::kF32: break;
    }
    return WeightType::float32;
}

const std::string& description_of(const Header& header) {
    if (!header.description) {
        refuse(
            {"not written by fusedcell.save: its header has no entry 'fusedcell'; of a state dictionary, `fusedcell "
             "convert` makes such a file, and in Python fusedcell.LSTM.from_state_dict(path, 'lstm.') a layer"});
    }
    return *header.description;
}

LoadedLayer make_layer(const Description& description, const std::vector<Tensor>& stored, const KernelTable& kernels) {
    check_types(stored, description.type);
    TensorsByName tensors;
    for (const Tensor& tensor : stored) tensors.emplace(tensor.name, &tensor);

    StackOptions options;
    options.reverse = description.reverse;
    options.input_scales = input_scales_of(take(tensors, "input_scales"));
    const std::vector<std::string> allowed = allowed_names(description);
    LayerTensors layers{{""}, {}, 1};
    const Tensor* h = nullptr;
    const Tensor* c = nullptr;
    if (description.is_cell) {
        for (const auto& [name, tensor] : tensors) {
            if (std::find(allowed.begin(), allowed.end(), name) != allowed.end()) continue;
            throw UnsupportedError("'" + name + "' is not an array of a cell; supported: " + joined(allowed));
        }
        layers.cells.push_back(std::move(tensors));
        if (description.reverse) refuse({"reverse: expected False, as a cell has no direction, got True"});
    } else {
        h = take(tensors, "initial_h");
        c = take(tensors, "initial_c");
        if (c != nullptr && h == nullptr) refuse({"'initial_c' is not there without 'initial_h'"});
        layers = tensors_by_layer(tensors, allowed);
    }
    options.num_directions = layers.num_directions;
    const std::vector<CellOptions> cell_options = parse_options(description.options, description.kind, layers.suffixes);

    Cells cells(layers);
    for (std::size_t i = 0; i < cell_options.size(); ++i) cells.named()[i].options = cell_options[i];
    LoadedLayer layer;
    layer.is_cell = description.is_cell;
    layer.batch_first = description.batch_first;
    const CellKind kind = plain_rnn(description.kind, cell_options);
    layer.stack = make_checked_stack(kind, cells.named(), kernels, options);
    set_initial_state(h, c, layer);
    return layer;
}

LoadedLayer load_layer(const unsigned char* data, std::size_t size, const std::string& isa) {
    return in_default_environment([&] {
        const Header header = parse_header(data, size, size);
        const Description description = Description::parse(parse_description(description_of(header)));
        return make_layer(description, tensors_of(header, data), select_tier(isa));
    });
}

}    // namespace fusedcell
