#include "load/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <set>
#include <utility>

#include "fusedcell/fusedcell.h"
#include "load/json.h"
#include "pack/pack.h"

namespace fusedcell {
namespace {

constexpr std::size_t kPrefix = sizeof(std::uint64_t);
constexpr std::uint64_t kMostHeaderBytes = 100'000'000;    // what the format allows
constexpr std::uint64_t kMostAxes = 3;                     // of any tensor of a layer
// So that none overflows, even in a tensor of no bytes.
constexpr std::uint64_t kLargestDim = std::min<std::uint64_t>(std::uint64_t{1} << 48, PTRDIFF_MAX);

struct NamedType {
    const char* code;
    StoredType type;
    const char* name;
    std::uint64_t size;
};
constexpr NamedType kTypes[] = {
    {"F32", StoredType::kF32, "float32", 4},
    {"BF16", StoredType::kBf16, "uint16", 2},
    {"F16", StoredType::kF16, "float16", 2},
    {"I8", StoredType::kI8, "int8", 1},
};

const NamedType& entry_of(StoredType type) { return kTypes[static_cast<std::size_t>(type)]; }

[[noreturn]] void refuse(const std::string& message) { throw LoadError("not a safetensors file: " + message); }

std::uint64_t little_endian64(const unsigned char* bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < kPrefix; ++i) value |= std::uint64_t{bytes[i]} << (8 * i);
    return value;
}

// A tensor and where its data begin and end, counted from the end of the header.
struct Entry {
    Tensor tensor;
    std::uint64_t begin;
    std::uint64_t end;
};

void expect_kind(const json::Value& value, json::Kind kind, const std::string& name, const char* expected) {
    if (value.kind() != kind) refuse(name + ": expected " + expected + ", got " + value.repr());
}

std::vector<std::uint64_t> whole_numbers(const json::Value& value, std::size_t most, const std::string& name) {
    expect_kind(value, json::Kind::kArray, name, "a list");
    std::vector<std::uint64_t> numbers;
    for (json::Value::Items items = value.items(); const std::optional<json::Value> item = items.next();) {
        const std::optional<std::uint64_t> number = item->whole_number();
        if (!number) refuse(name + ": expected whole numbers, got " + item->repr());
        if (numbers.size() == most) refuse(name + ": expected at most " + std::to_string(most) + " numbers");
        numbers.push_back(*number);
    }
    return numbers;
}

StoredType stored_type(const json::Value& value, const std::string& name) {
    expect_kind(value, json::Kind::kString, name + ": dtype", "a string");
    const std::string code = value.string();
    for (const NamedType& entry : kTypes) {
        if (code == entry.code) return entry.type;
    }
    throw LoadError(name + ": dtype " + code + " is not one of a layer's");
}

Entry parse_entry(const std::string& name, const json::Value& value) {
    expect_kind(value, json::Kind::kObject, name, "an object");
    std::optional<StoredType> type;
    std::optional<std::vector<std::uint64_t>> shape;
    std::optional<std::vector<std::uint64_t>> offsets;
    for (json::Value::Members members = value.members(); const std::optional<json::Member> member = members.next();) {
        if (member->name == "dtype" && !type) {
            type = stored_type(member->value, name);
        } else if (member->name == "shape" && !shape) {
            shape = whole_numbers(member->value, kMostAxes, name + ": shape");
        } else if (member->name == "data_offsets" && !offsets) {
            offsets = whole_numbers(member->value, 2, name + ": data_offsets");
        } else {
            refuse(name + ": expected dtype, shape and data_offsets, got '" + member->name + "'");
        }
    }
    if (!type || !shape || !offsets) refuse(name + ": expected dtype, shape and data_offsets");
    if (offsets->size() != 2) refuse(name + ": expected two data_offsets");

    std::uint64_t bytes = entry_of(*type).size;
    Shape dims;
    for (const std::uint64_t dim : *shape) {
        if (dim > kLargestDim) refuse(name + ": its shape is beyond any memory");
        if (dim != 0 && bytes > UINT64_MAX / dim) refuse(name + ": its shape is beyond any memory");
        bytes *= dim;
        dims.push_back(static_cast<std::ptrdiff_t>(dim));
    }
    const auto [begin, end] = std::pair((*offsets)[0], (*offsets)[1]);
    if (end < begin || end - begin != bytes) {
        refuse(name + ": expected " + std::to_string(bytes) + " bytes, got those from " + std::to_string(begin) +
               " to " + std::to_string(end));
    }
    return {{name, *type, std::move(dims), nullptr}, begin, end};
}

std::optional<std::string> parse_metadata(const json::Value& value) {
    if (value.kind() == json::Kind::kNull) return std::nullopt;
    expect_kind(value, json::Kind::kObject, "__metadata__", "an object");
    std::optional<std::string> description;
    for (json::Value::Members members = value.members(); const std::optional<json::Member> member = members.next();) {
        expect_kind(member->value, json::Kind::kString, "__metadata__", "strings");
        if (member->name == "fusedcell") description = member->value.string();
    }
    return description;
}

}    // namespace

const char* name_of(StoredType type) { return entry_of(type).name; }

std::vector<float> Tensor::floats() const {
    std::size_t count = 1;    // no more than the file has bytes
    for (const std::ptrdiff_t dim : shape) count *= static_cast<std::size_t>(dim);
    std::vector<float> values(count_of<float>(to_size(count)));
    const auto half = [&](std::size_t i) {
        return static_cast<std::uint16_t>(data[2 * i] | static_cast<unsigned>(data[2 * i + 1]) << 8);
    };
    switch (type) {
        case StoredType::kF32:
            if (count > 0) std::memcpy(values.data(), data, count * sizeof(float));
            break;
        case StoredType::kBf16:
            for (std::size_t i = 0; i < count; ++i) values[i] = from_bfloat16(half(i));
            break;
        case StoredType::kF16:
            for (std::size_t i = 0; i < count; ++i) values[i] = from_float16(half(i));
            break;
        case StoredType::kI8:
            for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<signed char>(data[i]);
            break;
    }
    return values;
}

TensorFile parse_safetensors(const unsigned char* data, std::size_t size) {
    if (size < kPrefix) refuse("expected 8 bytes or more, got " + std::to_string(size));
    const std::uint64_t header_size = little_endian64(data);
    if (header_size > kMostHeaderBytes || header_size > size - kPrefix) {
        refuse("its header has " + std::to_string(header_size) + " bytes, of " + std::to_string(size) + " of the file");
    }
    const std::string_view header(reinterpret_cast<const char*>(data) + kPrefix, static_cast<std::size_t>(header_size));
    const unsigned char* const body = data + kPrefix + header.size();
    const std::uint64_t body_size = size - kPrefix - header.size();

    TensorFile file;
    std::vector<Entry> entries;
    std::set<std::string> names;
    try {
        const json::Value root = json::Value::parse(header);
        expect_kind(root, json::Kind::kObject, "header", "an object");
        for (json::Value::Members members = root.members(); std::optional<json::Member> member = members.next();) {
            if (!names.insert(member->name).second) refuse("'" + member->name + "' comes twice");
            if (member->name == "__metadata__") {
                file.description = parse_metadata(member->value);
            } else {
                entries.push_back(parse_entry(member->name, member->value));
            }
        }
    } catch (const json::Error& error) {
        refuse(std::string("its header is not JSON: ") + error.what());
    }

    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
    std::uint64_t covered = 0;
    for (Entry& entry : entries) {
        if (entry.begin != covered || entry.end > body_size) {
            refuse(entry.tensor.name + ": expected data from byte " + std::to_string(covered) + " of " +
                   std::to_string(body_size) + " on, got " + std::to_string(entry.begin) + " to " +
                   std::to_string(entry.end));
        }
        entry.tensor.data = body + covered;
        covered = entry.end;
        file.tensors.push_back(std::move(entry.tensor));
    }
    if (covered != body_size) {
        refuse("expected " + std::to_string(covered) + " bytes of data, got " + std::to_string(body_size));
    }
    return file;
}

}    // namespace fusedcell
