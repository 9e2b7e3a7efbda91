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

namespace fusedcell {

using Fields = std::map<std::string, json::Value, std::less<>>;

[[noreturn]] void refuse(const std::string& message);
[[noreturn]] void refuse_unsupported(const std::string& message);

std::string quoted(std::string_view text);

/// Of the header's entry 'fusedcell', which is an object.
Fields parse_description(std::string_view text);

/// Of an object.
Fields fields_of(const json::Value& object, const std::string& name);

/// The same, of what may be none.
Fields object_of(const json::Value& value, const std::string& name);

/// Refuses other keys than these names, which have spaces between them, and fewer.
void expect_keys(const Fields& fields, std::string_view names, const std::string& owner);

/// Of a list that is not empty, with at most so many.
std::vector<json::Value> list_of(const json::Value& value, std::size_t most, const std::string& name);

/// Those of an object that must have exactly these names.
Fields exact_fields(const json::Value& value, const std::vector<std::string>& expected, const std::string& name);

const json::Value* find(const Fields& fields, std::string_view name);

/// For errors; of null, None.
std::string repr(const json::Value* value);
/// What a string says, or the repr of anything else.
std::string string_or_repr(const json::Value* value);

std::string checked_string(const json::Value& value, const std::string& name);
bool checked_bool(const json::Value& value, const std::string& name);
double checked_float32(const json::Value& value, const std::string& name);
std::int64_t checked_integer(const json::Value& value, std::int64_t least, std::int64_t most, const std::string& name);

/// An object with name, alpha and beta, of cells or of nodes.
Activation parse_activation(const json::Value& value, bool of_node, const std::string& name);

}    // namespace fusedcell
