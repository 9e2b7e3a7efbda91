// Members of the JSON objects in a file's metadata, checked one by one. All of this throws LoadError, or
// UnsupportedError for what a newer version may mean something by; errors begin with the `name` that is given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernel_api.h"
#include "load/json.h"
#include "model/message.h"

namespace fusedcell {

using Fields = std::map<std::string, json::Value, std::less<>>;

[[noreturn]] void refuse(Message parts);
[[noreturn]] void refuse_unsupported(Message parts);

std::string quoted(std::string_view text);

/// Of the header's entry 'fusedcell', which is an object.
Fields parse_description(std::string_view text);

/// Of an object.
Fields fields_of(const json::Value& object, std::string_view name);

/// The same, of what may be none.
Fields object_of(const json::Value& value, std::string_view name);

/// Refuses other keys than these names, which have spaces between them, and fewer.
void expect_keys(const Fields& fields, std::string_view names, std::string_view owner);

/// Of a list that is not empty, with at most so many.
std::vector<json::Value> list_of(const json::Value& value, std::size_t most, std::string_view name);

/// Those of an object that must have exactly these names.
Fields exact_fields(const json::Value& value, const std::vector<std::string>& expected, std::string_view name);

const json::Value* find(const Fields& fields, std::string_view name);

/// For errors; of null, None.
std::string repr(const json::Value* value);
/// What a string says, or the repr of anything else.
std::string string_or_repr(const json::Value* value);

std::string checked_string(const json::Value& value, std::string_view name);
bool checked_bool(const json::Value& value, std::string_view name);
double checked_float32(const json::Value& value, std::string_view name);
std::int64_t checked_integer(const json::Value& value, std::int64_t least, std::int64_t most, std::string_view name);

/// An object with name, alpha and beta, of cells or of nodes.
Activation parse_activation(const json::Value& value, bool of_node, std::string_view name);

}    // namespace fusedcell
