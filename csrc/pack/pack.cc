#include "pack/pack.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
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

// A row as int8: w = scale * q. A row below 2^-100 counts as zero.
struct QuantisedRow {
    float scale = 0.0F;
    std::vector<std::int8_t> values;    // whole groups

    QuantisedRow(const PanelShape& shape, const SourceRow& row, std::ptrdiff_t depth)
        : scale(row.scale), values(static_cast<std::size_t>(shape.padded(depth))) {
        if (row.weights == nullptr) return;
        float divisor = 1.0F;
        if (scale == 0.0F) {
            float largest = 0.0F;
            for (std::ptrdiff_t k = 0; k < depth; ++k) largest = std::max(largest, std::fabs(row.weights[k]));
            if (largest < 0x1p-100F) return;
            divisor = scale = largest / 127.0F;
        }
        for (std::ptrdiff_t k = 0; k < depth; ++k) {
            const float q = std::clamp(std::nearbyint(row.weights[k] / divisor), -127.0F, 127.0F);
            values[static_cast<std::size_t>(k)] = static_cast<std::int8_t>(q);
        }
    }

    std::int32_t compensation() const {
        std::int32_t sum = 0;
        for (const std::int8_t value : values) sum += value;
        return -128 * sum;
    }
};

// The parts of one block: rows [first, last), whole panels.
template <class Row>
unsigned char* pack_initial(const PanelShape& shape, const Row* rows, std::ptrdiff_t count,
                            unsigned char* destination) {
    if (!shape.has_initial_accumulators) return destination;
    for (std::ptrdiff_t panel = 0; panel < count; panel += shape.panel_rows()) {
        const Row* last_gate = rows + panel + shape.panel_rows() - shape.lanes;
        for (int lane = 0; lane < shape.lanes; ++lane) destination = write(destination, last_gate[lane].initial);
    }
    return destination;
}

void pack_floats(WeightType type, const SourceRow* rows, std::ptrdiff_t count, std::ptrdiff_t depth,
                 unsigned char* destination) {
    for (std::ptrdiff_t k = 0; k < depth; ++k) {
        for (std::ptrdiff_t r = 0; r < count; ++r) {
            const float weight = rows[r].weights == nullptr ? 0.0F : rows[r].weights[k];
            switch (type) {
                case WeightType::bfloat16: destination = write(destination, to_bfloat16(weight)); break;
                case WeightType::float16: destination = write(destination, to_float16(weight)); break;
                case WeightType::float32:
                case WeightType::int8:
                case WeightType::int8_int16: destination = write(destination, weight); break;
            }
        }
    }
}

void pack_int8(const PanelShape& shape, const SourceRow* rows, std::ptrdiff_t count, std::ptrdiff_t depth,
               unsigned char* destination) {
    std::vector<QuantisedRow> quantised;
    quantised.reserve(static_cast<std::size_t>(count));
    for (std::ptrdiff_t r = 0; r < count; ++r) quantised.emplace_back(shape, rows[r], depth);
    for (const QuantisedRow& row : quantised) destination = write(destination, row.scale);
    if (shape.compensated) {
        for (const QuantisedRow& row : quantised) destination = write(destination, row.compensation());
    }
    for (std::ptrdiff_t k = 0; k < depth; k += shape.group) {
        for (const QuantisedRow& row : quantised) {
            std::memcpy(destination, row.values.data() + k, static_cast<std::size_t>(shape.group));
            destination += shape.group;
        }
    }
}

// Bytes of the weights of `rows` rows, with what pads them.
std::ptrdiff_t weights_size(const PanelShape& shape, std::ptrdiff_t rows, std::ptrdiff_t depth) {
    switch (shape.type) {
        case WeightType::bfloat16:
        case WeightType::float16: return product_of(rows, depth, sizeof(std::uint16_t));
        case WeightType::int8:
        case WeightType::int8_int16: return product_of(rows, shape.padded(depth));
        case WeightType::float32: break;
    }
    return product_of(rows, depth, sizeof(float));
}

// Bytes of a block of `rows` rows, with what fills up its last cache line.
std::ptrdiff_t block_size(const PanelShape& shape, std::ptrdiff_t rows, std::ptrdiff_t depth) {
    constexpr std::ptrdiff_t kFloat = sizeof(float);
    std::ptrdiff_t bytes = weights_size(shape, rows, depth);
    if (shape.has_initial_accumulators) bytes = sum_of(bytes, product_of(rows / shape.gates, kFloat));
    if (is_quantised(shape.type)) bytes = sum_of(bytes, product_of(rows, kFloat, shape.compensated ? 2 : 1));
    return sum_of(bytes, kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment;
}

}    // namespace

float from_bfloat16(std::uint16_t half) { return from_bits(std::uint32_t{half} << 16); }

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

bool fits(WeightType type, float weight) {
    constexpr std::uint32_t kBfloat16RoundsToInfinity = 0x7f7f8000U;
    switch (type) {
        case WeightType::float32:
        case WeightType::int8:
        case WeightType::int8_int16: return true;
        case WeightType::bfloat16: return (bits_of(weight) & 0x7fffffffU) < kBfloat16RoundsToInfinity;
        case WeightType::float16: return std::fabs(weight) < 65520.0F;
    }
    return false;
}

std::size_t packed_size(const PanelShape& shape, std::ptrdiff_t panels, std::ptrdiff_t depth) {
    const std::ptrdiff_t rest = panels % shape.panels_per_block;
    std::ptrdiff_t bytes = product_of(panels / shape.panels_per_block, block_size(shape, shape.block_rows(), depth));
    if (rest > 0) bytes = sum_of(bytes, block_size(shape, rest * shape.panel_rows(), depth));
    return static_cast<std::size_t>(bytes);
}

std::size_t packed_weights_size(const PanelShape& shape, std::ptrdiff_t panels, std::ptrdiff_t depth) {
    return static_cast<std::size_t>(weights_size(shape, panels * shape.panel_rows(), depth));
}

void pack(const PanelShape& shape, const std::vector<SourceRow>& rows, std::ptrdiff_t depth,
          unsigned char* destination) {
    const auto total = static_cast<std::ptrdiff_t>(rows.size());
    for (std::ptrdiff_t first = 0; first < total; first += shape.block_rows()) {
        const std::ptrdiff_t count = std::min(shape.block_rows(), total - first);
        const SourceRow* block = rows.data() + first;
        unsigned char* weights = pack_initial(shape, block, count, destination);
        if (is_quantised(shape.type)) {
            pack_int8(shape, block, count, depth, weights);
        } else {
            pack_floats(shape.type, block, count, depth, weights);
        }
        destination += block_size(shape, count, depth);
    }
}

namespace {

// One vector of a block: `lanes` rows from `values` on, for each k, `block_rows` floats apart.
template <int kLanes>
void interleave(const float* values, std::ptrdiff_t row_stride, std::ptrdiff_t depth, float* destination,
                std::ptrdiff_t block_rows) {
    for (std::ptrdiff_t k = 0; k < depth; ++k) {
        for (int lane = 0; lane < kLanes; ++lane) destination[lane] = values[lane * row_stride + k];
        destination += block_rows;
    }
}

void pack_vector(const StridedMatrix& matrix, std::ptrdiff_t row, std::ptrdiff_t rows, int lanes, std::ptrdiff_t depth,
                 float* destination, std::ptrdiff_t block_rows) {
    const float* values = matrix.values + row * matrix.row_stride;
    if (matrix.stride == 1 && matrix.rotation == 0 && rows == lanes) {
        switch (lanes) {
            case 16: return interleave<16>(values, matrix.row_stride, depth, destination, block_rows);
            case 8: return interleave<8>(values, matrix.row_stride, depth, destination, block_rows);
            case 4: return interleave<4>(values, matrix.row_stride, depth, destination, block_rows);
            default: break;
        }
    }
    std::ptrdiff_t from = matrix.rotation == 0 ? 0 : depth - matrix.rotation;
    for (std::ptrdiff_t k = 0; k < depth; ++k, destination += block_rows) {
        const float* element = values + from * matrix.stride;
        if (matrix.row_stride == 1 && rows == lanes) {
            std::memcpy(destination, element, static_cast<std::size_t>(lanes) * sizeof(float));
        } else {
            for (std::ptrdiff_t lane = 0; lane < lanes; ++lane) {
                destination[lane] = lane < rows ? element[lane * matrix.row_stride] : 0.0F;
            }
        }
        if (++from == depth) from = 0;
    }
}

}    // namespace

void pack_strided(const PanelShape& shape, const StridedMatrix& matrix, int gates, std::ptrdiff_t units,
                  std::ptrdiff_t depth, const float* initial, unsigned char* destination) {
    const std::ptrdiff_t lanes = shape.lanes;
    const std::ptrdiff_t vectors = panels_for(units, shape.lanes) * gates;
    const std::ptrdiff_t block_vectors = std::ptrdiff_t{shape.panels_per_block} * shape.gates;
    for (std::ptrdiff_t first = 0; first < vectors; first += block_vectors) {
        const std::ptrdiff_t count = std::min(block_vectors, vectors - first);
        auto* starts = reinterpret_cast<float*>(destination);
        float* weights = starts + (shape.has_initial_accumulators ? count / shape.gates * lanes : 0);
        for (std::ptrdiff_t v = 0; v < count; ++v) {
            const std::ptrdiff_t unit = (first + v) / gates * lanes;
            const std::ptrdiff_t row = (first + v) % gates * units + unit;
            const std::ptrdiff_t rows = std::min(lanes, units - unit);
            for (std::ptrdiff_t lane = 0; lane < lanes; ++lane) {
                starts[v * lanes + lane] = initial != nullptr && lane < rows ? initial[row + lane] : 0.0F;
            }
            pack_vector(matrix, row, rows, shape.lanes, depth, weights + v * lanes, count * lanes);
        }
        destination += block_size(shape, count * lanes, depth);
    }
}

UnpackedRows unpack(const PanelShape& shape, const PackedMatrix& matrix) {
    const std::ptrdiff_t total = matrix.panels * shape.panel_rows();
    const std::ptrdiff_t depth = matrix.depth;
    UnpackedRows rows;
    rows.weights.resize(count_of<float>(total, depth));
    rows.initial.resize(count_of<float>(total));
    const auto* block = static_cast<const unsigned char*>(matrix.data);
    const unsigned char* source = block;
    const auto next = [&source](auto value) {
        value = read<decltype(value)>(source);
        source += sizeof value;
        return value;
    };
    for (std::ptrdiff_t first = 0; first < total; first += shape.block_rows()) {
        const std::ptrdiff_t count = std::min(shape.block_rows(), total - first);
        float* weights = rows.weights.data() + first * depth;
        source = block;
        block += block_size(shape, count, depth);
        if (shape.has_initial_accumulators) {
            for (std::ptrdiff_t panel = 0; panel < count; panel += shape.panel_rows()) {
                float* last_gate = rows.initial.data() + first + panel + shape.panel_rows() - shape.lanes;
                for (int lane = 0; lane < shape.lanes; ++lane) last_gate[lane] = next(0.0F);
            }
        }
        if (is_quantised(shape.type)) {
            for (std::ptrdiff_t r = 0; r < count; ++r) rows.scales.push_back(next(0.0F));
            if (shape.compensated) source += count * std::ptrdiff_t{sizeof(std::int32_t)};
            for (std::ptrdiff_t group = 0; group < depth; group += shape.group) {
                for (std::ptrdiff_t r = 0; r < count; ++r) {
                    for (std::ptrdiff_t k = group; k < group + shape.group; ++k) {
                        const float q = next(std::int8_t{});
                        if (k < depth) weights[r * depth + k] = q;
                    }
                }
            }
            continue;
        }
        for (std::ptrdiff_t k = 0; k < depth; ++k) {
            for (std::ptrdiff_t r = 0; r < count; ++r) {
                switch (shape.type) {
                    case WeightType::bfloat16: weights[r * depth + k] = from_bfloat16(next(std::uint16_t{})); break;
                    case WeightType::float16: weights[r * depth + k] = from_float16(next(std::uint16_t{})); break;
                    case WeightType::float32:
                    case WeightType::int8:
                    case WeightType::int8_int16: weights[r * depth + k] = next(0.0F); break;
                }
            }
        }
    }
    return rows;
}

}    // namespace fusedcell
