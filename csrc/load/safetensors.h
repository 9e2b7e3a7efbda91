// The container: named tensors and metadata (https://github.com/huggingface/safetensors, section Format).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/shape.h"

namespace fusedcell {

struct Entry {
    std::string name;
    std::string dtype;    // as the format spells it, "F32"
    Shape shape;
    std::uint64_t begin, end;    // of its data, in bytes from the file's start
};

struct Header {
    std::vector<Entry> entries;                // in the order of their data
    std::optional<std::string> description;    // of the metadata, the entry 'fusedcell'
};

/// Of a file of `file_size` bytes, of which the first `size` are given, or all of the header. Checks it whole: the data
/// are covered without gap or overlap, and each tensor's are as large as its shape says where its type is known here.
/// Throws LoadError.
Header parse_header(const unsigned char* start, std::size_t size, std::uint64_t file_size);

enum class StoredType { kF32, kBf16, kF16, kI8 };

// What NumPy calls the type; BF16 is that type's bits.
const char* name_of(StoredType type);

// Its data are in the file's bytes, little-endian and not aligned.
struct Tensor {
    std::string name;
    StoredType type;
    Shape shape;
    const unsigned char* data;

    /// The values as floats, exactly.
    std::vector<float> floats() const;
};

/// Those of a file's bytes; throws LoadError for a type that no tensor of a layer has.
std::vector<Tensor> tensors_of(const Header& header, const unsigned char* file);

}    // namespace fusedcell
