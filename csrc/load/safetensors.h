// The container: named tensors and metadata (https://github.com/huggingface/safetensors, section Format).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "model/shape.h"

namespace fusedcell {

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

struct TensorFile {
    std::vector<Tensor> tensors;               // in the order of their data
    std::optional<std::string> description;    // of the metadata, the entry 'fusedcell'
};

/// Checks the whole header: every tensor's size is that of its shape, and the data are covered without gap or overlap.
/// Throws LoadError.
TensorFile parse_safetensors(const unsigned char* data, std::size_t size);

}    // namespace fusedcell
