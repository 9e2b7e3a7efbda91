#include "load/description.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "fusedcell/fusedcell.h"
#include "model/cell_options.h"

namespace fusedcell {
namespace {

using json::Kind;
using json::Value;

constexpr double kSmallestNormal = 0x1p-126;

bool bool_or_false(const Fields& fields, const char* name) {
    const Value* value = find(fields, name);
    return value != nullptr && checked_bool(*value, name);
}

struct NamedClass {
    const char* name;
    const char* kinds[2];
};
constexpr NamedClass kClasses[] = {
    {"RNN", {"rnn_tanh", "rnn_relu"}},
    {"LSTM", {"lstm", "lstm"}},
    {"GRU", {"gru_reset_after", "gru_reset_before"}},
};

// The kind, if that is one of the class, whose name may end in Cell.
std::optional<CellKind> kind_of_class(std::string_view class_name, std::string_view kind) {
    for (const NamedClass& entry : kClasses) {
        if (class_name == entry.name && (kind == entry.kinds[0] || kind == entry.kinds[1])) return kind_from_name(kind);
    }
    return std::nullopt;
}

bool remove_suffix(std::string_view& text, std::string_view suffix) {
    if (text.size() < suffix.size() || text.substr(text.size() - suffix.size()) != suffix) return false;
    text.remove_suffix(suffix.size());
    return true;
}

CellOptions parse_cell_options(const Value& value, CellKind kind, const std::string& suffix) {
    const Fields fields = exact_fields(value, {"activations", "clip", "clip_before_h", "input_forget"}, "options");
    CellOptions options = usual_options(kind);
    const Value& activations = fields.at("activations");
    if (activations.kind() != Kind::kNull) {
        if (activations.kind() != Kind::kArray) {
            refuse({"options: expected activations as a list, got ", activations.repr()});
        }
        std::vector<Activation> parsed;
        const auto expected = static_cast<std::size_t>(activations_of(kind));
        const char* const functions = expected == 1 ? "f" : expected == 2 ? "f, g" : "f, g, h";
        const auto fail = [&] {
            refuse({"activations", suffix, ": expected ", std::to_string(expected), " (", functions, "), got ",
                    activations.repr()});
        };
        for (Value::Items items = activations.items(); const std::optional<Value> item = items.next();) {
            if (parsed.size() == expected) fail();
            parsed.push_back(parse_activation(*item, false, "activations" + suffix));
        }
        if (parsed.size() != expected) fail();
        std::copy(parsed.begin(), parsed.end(), options.activations);
    }
    const Value& clip = fields.at("clip");
    if (clip.kind() != Kind::kNull) {
        const double number = checked_float32(clip, "clip" + suffix);
        if (number < kSmallestNormal) {
            refuse({"clip", suffix, ": expected a number from 2^-126 on, or None, got ", clip.repr()});
        }
        options.clip = static_cast<float>(number);
    }
    options.clip_before_h = checked_bool(fields.at("clip_before_h"), "clip_before_h" + suffix);
    options.input_forget = checked_bool(fields.at("input_forget"), "input_forget" + suffix);
    if (options.input_forget && kind != CellKind::kLstm) {
        refuse({"input_forget", suffix, ": expected False, as only the LSTM has a forget gate, got True"});
    }
    return options;
}

}    // namespace

Description Description::parse(const Fields& fields) {
    if (string_or_repr(find(fields, "class")) == "Model") {
        refuse(
            {"expected a layer, got a whole model: fusedcell::load_model reads it, and in Python fusedcell.load both"});
    }
    const Value* version = find(fields, "format_version");
    const std::string_view number = version == nullptr ? "" : version->text();
    if (number != "1" && number != "2" && number != "3") {
        refuse_unsupported({"format_version=", repr(version), " is not supported; supported: 1, 2, 3"});
    }
    // The first version knows neither options nor the reverse direction, and the third alone a type for each matrix.
    const bool is_first = number == "1";
    std::vector<std::string_view> keys = {"format_version", "class", "kind", "dtype", "batch_first"};
    if (!is_first) keys.insert(keys.end(), {"options", "reverse"});
    for (const auto& [key, value] : fields) {
        if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
            refuse_unsupported({"'", key, "' is not a key of format version ", number});
        }
    }

    const std::string class_name = string_or_repr(find(fields, "class"));
    const std::string kind_name = string_or_repr(find(fields, "kind"));
    std::string_view layer_class = class_name;
    const bool is_cell = remove_suffix(layer_class, "Cell");
    const std::optional<CellKind> kind = kind_of_class(layer_class, kind_name);
    if (!kind) refuse_unsupported({"class='", class_name, "' of kind='", kind_name, "' is not supported"});

    const std::string dtype = string_or_repr(find(fields, "dtype"));
    const std::optional<WeightType> type = weight_type_from_name(dtype);
    const bool is_mixed = number == "3" && dtype == "mixed";
    if (!type && !is_mixed) {
        refuse_unsupported({"dtype='", dtype, "' is not supported; supported: ", weight_type_names()});
    }

    const bool batch_first = bool_or_false(fields, "batch_first") && !is_cell;
    const bool reverse = bool_or_false(fields, "reverse");
    const Value* options = find(fields, "options");
    if (options != nullptr && options->kind() != Kind::kArray) {
        refuse({"options: expected a list, got ", options->repr()});
    }
    return {!is_first, is_cell, *kind, type, batch_first, reverse, options == nullptr ? Value::parse("[]") : *options};
}

std::vector<CellOptions> parse_options(const Value& list, CellKind kind, const std::vector<std::string>& suffixes) {
    std::size_t count = 0;
    for (Value::Items items = list.items(); items.next();) ++count;
    if (count > 0 && count != suffixes.size()) {
        refuse({"options: expected one per layer and direction, ", std::to_string(suffixes.size()), ", got ",
                std::to_string(count)});
    }
    std::vector<CellOptions> options;
    for (Value::Items items = list.items(); const std::optional<Value> item = items.next();) {
        options.push_back(parse_cell_options(*item, kind, suffixes[options.size()]));
    }
    return options;
}

}    // namespace fusedcell
