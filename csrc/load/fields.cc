#include "load/fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>
#include <utility>

#include "fusedcell/fusedcell.h"
#include "model/names.h"

namespace fusedcell {
namespace {

using json::Kind;
using json::Value;

constexpr std::size_t kMostFields = 16;    // more than any object has that is accepted
constexpr double kLargestFloat = 0x1.fffffep127;
constexpr double kRoundsToInfinity = 0x1.ffffffp127;    // halfway to the next, were there one

}    // namespace

void refuse(Message parts) { throw LoadError(joined(parts)); }
void refuse_unsupported(Message parts) { throw UnsupportedError(joined(parts)); }

Fields parse_description(std::string_view text) {
    try {
        const Value root = Value::parse(text);
        if (root.kind() != Kind::kObject) refuse({"the header's entry 'fusedcell' is not an object"});
        return fields_of(root, "the header's entry 'fusedcell'");
    } catch (const json::Error& error) {
        refuse({"the header's entry 'fusedcell' is not JSON: ", error.what()});
    }
}

Fields fields_of(const Value& object, std::string_view name) {
    Fields fields;
    for (Value::Members members = object.members(); std::optional<json::Member> member = members.next();) {
        if (fields.size() == kMostFields)
            refuse({name, ": expected at most ", std::to_string(kMostFields), " members"});
        const auto [field, is_new] = fields.emplace(std::move(member->name), member->value);
        if (!is_new) refuse({name, ": ", quoted(field->first), " comes twice"});
    }
    return fields;
}

std::string quoted(std::string_view text) { return joined({"'", text, "'"}); }

Fields object_of(const Value& value, std::string_view name) {
    if (value.kind() != Kind::kObject) refuse({name, ": expected an object, got ", value.repr()});
    return fields_of(value, name);
}

void expect_keys(const Fields& fields, std::string_view names, std::string_view owner) {
    std::vector<std::string_view> expected;
    for (std::size_t first = 0; first < names.size();) {
        const std::size_t end = std::min(names.find(' ', first), names.size());
        if (end > first) expected.push_back(names.substr(first, end - first));
        first = end + 1;
    }
    for (const auto& [key, value] : fields) {
        if (std::find(expected.begin(), expected.end(), key) == expected.end()) {
            refuse_unsupported({owner, ": ", quoted(key), " is not one of its keys"});
        }
    }
    std::string_view missing;    // the first by the alphabet
    for (const std::string_view key : expected) {
        if (find(fields, key) == nullptr && (missing.empty() || key < missing)) missing = key;
    }
    if (!missing.empty()) refuse({owner, ": ", quoted(missing), " is missing"});
}

std::vector<Value> list_of(const Value& value, std::size_t most, std::string_view name) {
    if (value.kind() != Kind::kArray) refuse({name, ": expected a list, got ", value.repr()});
    std::vector<Value> items;
    for (Value::Items left = value.items(); const std::optional<Value> item = left.next();) {
        if (items.size() == most) refuse({name, ": expected at most ", std::to_string(most)});
        items.push_back(*item);
    }
    if (items.empty()) refuse({name, ": expected at least one"});
    return items;
}

Fields exact_fields(const Value& value, const std::vector<std::string>& expected, std::string_view name) {
    std::string names;
    for (const std::string& field : expected) names += (names.empty() ? "" : ", ") + field;
    const auto fail = [&] { refuse({name, ": expected an object with ", names, ", got ", value.repr()}); };
    if (value.kind() != Kind::kObject) fail();
    Fields fields = fields_of(value, name);
    const auto is_there = [&](const std::string& field) { return fields.count(field) == 1; };
    if (fields.size() != expected.size() || !std::all_of(expected.begin(), expected.end(), is_there)) fail();
    return fields;
}

const Value* find(const Fields& fields, std::string_view name) {
    const auto found = fields.find(name);
    return found == fields.end() ? nullptr : &found->second;
}

std::string repr(const Value* value) { return value == nullptr ? "None" : value->repr(); }

std::string string_or_repr(const Value* value) {
    return value != nullptr && value->kind() == Kind::kString ? value->string() : repr(value);
}

std::string checked_string(const Value& value, std::string_view name) {
    if (value.kind() != Kind::kString) refuse({name, ": expected a string, got ", value.repr()});
    return value.string();
}

bool checked_bool(const Value& value, std::string_view name) {
    if (value.kind() != Kind::kBool) refuse({name, ": expected a bool, got ", value.repr()});
    return value.is_true();
}

double checked_float32(const Value& value, std::string_view name) {
    if (value.kind() != Kind::kNumber) refuse({name, ": expected a number, got ", value.repr()});
    const std::optional<double> number = value.number();
    if (!number || std::fabs(*number) >= kRoundsToInfinity) {
        refuse({name, ": expected a finite float32, got ", value.repr()});
    }
    return std::clamp(*number, -kLargestFloat, kLargestFloat);    // whose shortest decimal is beyond it
}

std::int64_t checked_integer(const Value& value, std::int64_t least, std::int64_t most, std::string_view name) {
    std::int64_t number = 0;
    const char* const begin = value.text().data();
    const char* const end = begin + value.text().size();
    const std::from_chars_result result = std::from_chars(begin, end, number);
    if (result.ec != std::errc{} || result.ptr != end || number < least || number > most) {
        refuse({name, ": expected a whole number from ", std::to_string(least), " to ", std::to_string(most), ", got ",
                value.repr()});
    }
    return number;
}

Activation parse_activation(const Value& value, bool of_node, std::string_view name) {
    const Fields fields = exact_fields(value, {"alpha", "beta", "name"}, name);
    const Value& name_value = fields.at("name");
    std::optional<ActivationKind> kind;
    if (name_value.kind() == Kind::kString) {
        const std::string text = name_value.string();
        kind = of_node ? node_activation_from_name(text) : activation_from_name(text);
    }
    if (!kind) {
        refuse_unsupported({name, ": ", name_value.repr(), " is not supported; supported: ",
                            (of_node ? node_activation_names() : activation_names())});
    }
    float values[2];
    const char* const parameters[2] = {"alpha", "beta"};
    for (int i = 0; i < 2; ++i) {
        const Value& parameter = fields.at(parameters[i]);
        const std::string what = joined({name, ": ", parameters[i], " of ", name_of(*kind)});
        const double number = checked_float32(parameter, what);
        if (number != 0.0 && i >= parameters_of(*kind)) {
            refuse({what, ": expected 0, as it takes none, got ", parameter.repr()});
        }
        values[i] = static_cast<float>(number);
    }
    return {*kind, values[0], values[1]};
}

}    // namespace fusedcell
