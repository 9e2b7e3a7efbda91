#include "load/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <set>
#include <utility>

#include "fusedcell/fusedcell.h"
#include "load/json.h"
#include "model/message.h"
#include "pack/pack.h"

namespace fusedcell {
namespace {

constexpr std::size_t kPrefix = sizeof(std::uint64_t);
constexpr std::uint64_t kMostHeaderBytes = 100'000'000;    // what the format allows
constexpr std::uint64_t kMostAxes = 64;                    // what NumPy's arrays can have
// So that none overflows, even in a tensor of no bytes.
constexpr std::uint64_t kLargestDim = std::min<std::uint64_t>(std::uint64_t{1} << 48, PTRDIFF_MAX);

struct NamedType {
    const char* dtype;
    const char* name;
};
constexpr NamedType kStoredTypes[] = {{"F32", "float32"}, {"BF16", "bfloat16"}, {"F16", "float16"}, {"I8", "int8"}};

constexpr std::pair<const char*, std::uint64_t> kElementSizes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"U16", 2}, {"I16", 2}, {"F16", 2}, {"BF16", 2},
    {"U32", 4},  {"I32", 4}, {"F32", 4}, {"U64", 8}, {"I64", 8}, {"F64", 8},
};

// 0 where it is not known, as of types that the format has had since.
std::uint64_t element_size(std::string_view dtype) {
    for (const auto& [name, size] : kElementSizes) {
        if (dtype == name) return size;
    }
    return 0;
}

[[noreturn]] void reject(Message parts) { throw LoadError("not a safetensors file: " + joined(parts)); }

std::uint64_t little_endian64(const unsigned char* bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < kPrefix; ++i) value |= std::uint64_t{bytes[i]} << (8 * i);
    return value;
}

void expect_kind(const json::Value& value, json::Kind kind, std::string_view name, const char* expected) {
    if (value.kind() != kind) reject({name, ": expected ", expected, ", got ", value.repr()});
}

std::vector<std::uint64_t> whole_numbers(const json::Value& value, std::size_t most, std::string_view name) {
    expect_kind(value, json::Kind::kArray, name, "a list");
    std::vector<std::uint64_t> numbers;
    for (json::Value::Items items = value.items(); const std::optional<json::Value> item = items.next();) {
        const std::optional<std::uint64_t> number = item->whole_number();
        if (!number) reject({name, ": expected whole numbers, got ", item->repr()});
        if (numbers.size() == most) reject({name, ": expected at most ", std::to_string(most), " numbers"});
        numbers.push_back(*number);
    }
    return numbers;
}

Entry parse_entry(const std::string& name, const json::Value& value) {
    if (name.find('\0') != std::string::npos) reject({"the name of a tensor has a NUL in it"});
    expect_kind(value, json::Kind::kObject, name, "an object");
    std::optional<std::string> dtype;
    std::optional<std::vector<std::uint64_t>> shape;
    std::optional<std::vector<std::uint64_t>> offsets;
    for (json::Value::Members members = value.members(); const std::optional<json::Member> member = members.next();) {
        if (member->name == "dtype" && !dtype) {
            expect_kind(member->value, json::Kind::kString, name + ": dtype", "a string");
            dtype = member->value.string();
        } else if (member->name == "shape" && !shape) {
            shape = whole_numbers(member->value, kMostAxes, name + ": shape");
        } else if (member->name == "data_offsets" && !offsets) {
            offsets = whole_numbers(member->value, 2, name + ": data_offsets");
        } else {
            reject({name, ": expected dtype, shape and data_offsets, got '", member->name, "'"});
        }
    }
    if (!dtype || !shape || !offsets) reject({name, ": expected dtype, shape and data_offsets"});
    if (offsets->size() != 2) reject({name, ": expected two data_offsets"});

    const std::uint64_t element = element_size(*dtype);
    std::uint64_t bytes = element;
    Shape dims;
    for (const std::uint64_t dim : *shape) {
        if (dim > kLargestDim) reject({name, ": its shape is beyond any memory"});
        if (dim != 0 && bytes > UINT64_MAX / dim) reject({name, ": its shape is beyond any memory"});
        bytes *= dim;
        dims.push_back(static_cast<std::ptrdiff_t>(dim));
    }
    const auto [begin, end] = std::pair((*offsets)[0], (*offsets)[1]);
    if (end < begin || (element != 0 && end - begin != bytes)) {
        const std::string expected = element == 0 ? "some" : std::to_string(bytes);
        reject({name, ": expected ", expected, " bytes, got those from ", std::to_string(begin), " to ",
                std::to_string(end)});
    }
    return {name, *std::move(dtype), std::move(dims), begin, end};
}

std::optional<std::string> parse_metadata(const json::Value& value) {
    if (value.kind() == json::Kind::kNull) return std::nullopt;
    expect_kind(value, json::Kind::kObject, "__metadata__", "an object");
    std::optional<std::string> description;
    for (json::Value::Members members = value.members(); const std::optional<json::Member> member = members.next();) {
        expect_kind(member->value, json::Kind::kString, "__metadata__", "strings");
        if (member->name != "fusedcell") continue;
        if (description) reject({"__metadata__: 'fusedcell' comes twice"});
        description = member->value.string();
    }
    return description;
}

}    // namespace

const char* name_of(StoredType type) { return kStoredTypes[static_cast<std::size_t>(type)].name; }

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

Header parse_header(const unsigned char* start, std::size_t size, std::uint64_t file_size) {
    if (size < kPrefix) reject({"expected 8 bytes or more, got ", std::to_string(size)});
    const std::uint64_t header_size = little_endian64(start);
    if (header_size > kMostHeaderBytes || header_size > size - kPrefix || size > file_size) {
        reject(
            {"its header has ", std::to_string(header_size), " bytes, of ", std::to_string(file_size), " of the file"});
    }
    const std::string_view text(reinterpret_cast<const char*>(start) + kPrefix, static_cast<std::size_t>(header_size));
    const std::uint64_t body = kPrefix + header_size;
    const std::uint64_t body_size = file_size - body;

    Header header;
    std::set<std::string> names;
    try {
        const json::Value root = json::Value::parse(text);
        expect_kind(root, json::Kind::kObject, "header", "an object");
        for (json::Value::Members members = root.members(); std::optional<json::Member> member = members.next();) {
            if (!names.insert(member->name).second) reject({"'", member->name, "' comes twice"});
            if (member->name == "__metadata__") {
                header.description = parse_metadata(member->value);
            } else {
                header.entries.push_back(parse_entry(member->name, member->value));
            }
        }
    } catch (const json::Error& error) {
        reject({"its header is not JSON: ", error.what()});
    }

    std::sort(header.entries.begin(), header.entries.end(),
              [](const Entry& a, const Entry& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
    std::uint64_t covered = 0;
    for (Entry& entry : header.entries) {
        if (entry.begin != covered || entry.end > body_size) {
            reject({entry.name, ": expected data from byte ", std::to_string(covered), " of ",
                    std::to_string(body_size), " on, got ", std::to_string(entry.begin), " to ",
                    std::to_string(entry.end)});
        }
        covered = entry.end;
        entry.begin += body;
        entry.end += body;
    }
    if (covered != body_size) {
        reject({"expected ", std::to_string(covered), " bytes of data, got ", std::to_string(body_size)});
    }
    return header;
}

std::vector<Tensor> tensors_of(const Header& header, const unsigned char* file) {
    std::vector<Tensor> tensors;
    for (const Entry& entry : header.entries) {
        const auto* const found = std::find_if(std::begin(kStoredTypes), std::end(kStoredTypes),
                                               [&](const NamedType& type) { return entry.dtype == type.dtype; });
        if (found == std::end(kStoredTypes)) {
            throw LoadError(entry.name + ": dtype " + entry.dtype + " is not one of a layer's");
        }
        tensors.push_back({entry.name, static_cast<StoredType>(found - kStoredTypes), entry.shape, file + entry.begin});
    }
    return tensors;
}

}    // namespace fusedcell
