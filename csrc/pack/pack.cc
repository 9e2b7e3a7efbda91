#include "pack/pack.h"

#include <cmath>
#include <cstring>

namespace fusedcell {
namespace {

std::uint32_t bits_of(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

float from_bits(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <class T>
unsigned char* write(unsigned char* destination, T value) {
    std::memcpy(destination, &value, sizeof value);
    return destination + sizeof value;
}

template <class T>
T read(const unsigned char* source) {
    T value;
    std::memcpy(&value, source, sizeof value);
    return value;
}

unsigned char* write_weight(unsigned char* destination, WeightType type, float weight) {
    switch (type) {
        case WeightType::float32: return write(destination, weight);
        case WeightType::bfloat16: return write(destination, to_bfloat16(weight));
        case WeightType::float16: return write(destination, to_float16(weight));
    }
    return destination;
}

float from_float16(std::uint16_t half) {
    const std::uint32_t sign = (half & 0x8000U) << 16;
    const std::uint32_t exponent = (half >> 10) & 0x1fU;
    const std::uint32_t mantissa = half & 0x3ffU;
    if (exponent == 0) {
        const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
        return sign != 0 ? -magnitude : magnitude;
    }
    return from_bits(sign | ((exponent == 0x1fU ? 0xffU : exponent + (127 - 15)) << 23) | (mantissa << 13));
}

}    // namespace

// Adding half of the last kept place, less one unit when that place is even, rounds to nearest, ties to even.
std::uint16_t to_bfloat16(float value) {
    const std::uint32_t bits = bits_of(value);
    if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
    return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

std::uint16_t to_float16(float value) {
    const std::uint32_t bits = bits_of(value);
    const std::uint32_t sign = (bits >> 16) & 0x8000U;
    const std::uint32_t magnitude = bits & 0x7fffffffU;
    constexpr std::uint32_t kInfinity = 0x7f800000U;
    constexpr std::uint32_t kRoundsToInfinity = 0x477ff000U;    // 65520
    constexpr std::uint32_t kSmallestNormal = 0x38800000U;      // 2^-14
    std::uint32_t half;
    if (magnitude > kInfinity) {
        half = 0x7e00U;
    } else if (magnitude >= kRoundsToInfinity) {
        half = 0x7c00U;
    } else if (magnitude < kSmallestNormal) {
        // The last place of a denormal half is 2^-24, which is that of a float between 1/2 and 1.
        half = bits_of(from_bits(magnitude) + 0.5F) - bits_of(0.5F);
    } else {
        half = (magnitude + 0xfffU + ((magnitude >> 13) & 1U) - ((127U - 15U) << 23)) >> 13;
    }
    return static_cast<std::uint16_t>(sign | half);
}

bool fits(WeightType type, float weight) {
    constexpr std::uint32_t kBfloat16RoundsToInfinity = 0x7f7f8000U;
    if (!std::isfinite(weight)) return true;
    switch (type) {
        case WeightType::float32: return true;
        case WeightType::bfloat16: return (bits_of(weight) & 0x7fffffffU) < kBfloat16RoundsToInfinity;
        case WeightType::float16: return std::fabs(weight) < 65520.0F;
    }
    return false;
}

float widen(WeightType type, const unsigned char* source) {
    switch (type) {
        case WeightType::float32: return read<float>(source);
        case WeightType::bfloat16: return from_bits(std::uint32_t{read<std::uint16_t>(source)} << 16);
        case WeightType::float16: return from_float16(read<std::uint16_t>(source));
    }
    return 0.0F;
}

std::size_t packed_size(const PanelShape& shape, std::ptrdiff_t panels, std::ptrdiff_t depth) {
    const auto rows = static_cast<std::size_t>(panels * shape.gates * shape.lanes);
    const std::size_t initial = shape.has_initial_accumulators ? rows * sizeof(float) : 0;
    return initial + rows * static_cast<std::size_t>(depth) * bytes_of(shape.type);
}

void pack(const PanelShape& shape, const std::vector<SourceRow>& rows, std::ptrdiff_t depth,
          unsigned char* destination) {
    const std::size_t rows_per_block =
        static_cast<std::size_t>(shape.panels_per_block) * static_cast<std::size_t>(shape.gates * shape.lanes);
    for (std::size_t first = 0; first < rows.size(); first += rows_per_block) {
        const std::size_t last = std::min(first + rows_per_block, rows.size());
        if (shape.has_initial_accumulators) {
            for (std::size_t r = first; r < last; ++r) destination = write(destination, rows[r].initial);
        }
        for (std::ptrdiff_t k = 0; k < depth; ++k) {
            for (std::size_t r = first; r < last; ++r) {
                const float weight = rows[r].weights == nullptr ? 0.0F : rows[r].weights[k];
                destination = write_weight(destination, shape.type, weight);
            }
        }
    }
}

}    // namespace fusedcell
