#include "pack/pack.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

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

unsigned char* write_float(WeightType type, float weight, unsigned char* destination) {
    switch (type) {
        case WeightType::bfloat16: return write(destination, to_bfloat16(weight));
        case WeightType::float16: return write(destination, to_float16(weight));
        case WeightType::float32:
        case WeightType::int8:
        case WeightType::int8_int16: break;
    }
    return write(destination, weight);
}

float weight_of(const SourceRow& row, std::ptrdiff_t k) { return row.weights == nullptr ? 0.0F : row.weights[k]; }

// A vector of rows that are `stride` apart: destination[k * count + lane] is a row's k.
template <int kLanes>
void interleave(const float* rows, std::ptrdiff_t stride, std::ptrdiff_t depth, float* destination,
                std::ptrdiff_t count) {
    for (std::ptrdiff_t k = 0; k < depth; ++k, destination += count) {
        for (int lane = 0; lane < kLanes; ++lane) destination[lane] = rows[lane * stride + k];
    }
}

// Any rows, four at a time and some steps of them, of which loops of a fixed length become interleaving instructions.
void interleave_any(const SourceRow* rows, std::ptrdiff_t width, std::ptrdiff_t depth, std::ptrdiff_t count,
                    float* destination) {
    constexpr std::ptrdiff_t kSteps = 16;
    constexpr float kZeros[kSteps] = {};
    float together[4 * kSteps];
    const auto put_together = [&](const float* a, const float* b, const float* c, const float* d, auto steps) {
        for (std::ptrdiff_t k = 0; k < steps; ++k) {
            together[4 * k] = a[k];
            together[4 * k + 1] = b[k];
            together[4 * k + 2] = c[k];
            together[4 * k + 3] = d[k];
        }
    };
    for (std::ptrdiff_t first = 0; first < depth; first += kSteps) {
        const std::ptrdiff_t steps = std::min(kSteps, depth - first);
        for (std::ptrdiff_t r = 0; r < width; r += 4) {
            const auto row = [&](std::ptrdiff_t i) {
                return r + i >= width || rows[r + i].weights == nullptr ? kZeros : rows[r + i].weights + first;
            };
            if (steps == kSteps) {
                put_together(row(0), row(1), row(2), row(3), std::integral_constant<std::ptrdiff_t, kSteps>());
            } else {
                put_together(row(0), row(1), row(2), row(3), steps);
            }
            float* next = destination + first * count + r;
            if (width - r >= 4) {
                for (std::ptrdiff_t k = 0; k < steps; ++k, next += count) std::copy_n(together + 4 * k, 4, next);
            } else {
                for (std::ptrdiff_t k = 0; k < steps; ++k, next += count)
                    std::copy_n(together + 4 * k, width - r, next);
            }
        }
    }
}

// How far rows are from each other where they are whole and at the same distance, as those of a matrix; else 0.
std::ptrdiff_t distance_of(const SourceRow* rows, int count) {
    if (rows[count - 1].weights == nullptr) return 0;    // in a last panel some are missing
    const std::ptrdiff_t distance = rows[1].weights - rows[0].weights;
    std::ptrdiff_t others = 0;
    for (int r = 0; r < count; ++r) others += rows[r].weights != rows[0].weights + r * distance ? 1 : 0;
    return others == 0 ? distance : 0;
}

void pack_float32(int lanes, const SourceRow* rows, std::ptrdiff_t count, std::ptrdiff_t depth, float* destination) {
    if (lanes < 4) return interleave_any(rows, count, depth, count, destination);
    for (std::ptrdiff_t r = 0; r < count; r += lanes, rows += lanes, destination += lanes) {
        const std::ptrdiff_t distance = distance_of(rows, lanes);
        if (distance != 0 && lanes == 16) {
            interleave<16>(rows->weights, distance, depth, destination, count);
        } else if (distance != 0 && lanes == 8) {
            interleave<8>(rows->weights, distance, depth, destination, count);
        } else if (distance != 0 && lanes == 4) {
            interleave<4>(rows->weights, distance, depth, destination, count);
        } else {
            interleave_any(rows, lanes, depth, count, destination);
        }
    }
}

void pack_halves(WeightType type, const SourceRow* rows, std::ptrdiff_t count, std::ptrdiff_t depth,
                 unsigned char* destination) {
    for (std::ptrdiff_t k = 0; k < depth; ++k) {
        for (std::ptrdiff_t r = 0; r < count; ++r) {
            destination = write_float(type, weight_of(rows[r], k), destination);
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

float read_float(WeightType type, const unsigned char*& source) {
    const auto next = [&source](auto value) {
        value = read<decltype(value)>(source);
        source += sizeof value;
        return value;
    };
    switch (type) {
        case WeightType::bfloat16: return from_bfloat16(next(std::uint16_t{}));
        case WeightType::float16: return from_float16(next(std::uint16_t{}));
        case WeightType::float32:
        case WeightType::int8:
        case WeightType::int8_int16: break;
    }
    return next(0.0F);
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

bool are_finite(WeightType type, const float* weights, std::ptrdiff_t size) {
    return std::all_of(weights, weights + size, [&](float w) { return std::isfinite(w) && fits(type, w); });
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
        } else if (shape.type == WeightType::float32) {
            pack_float32(shape.lanes, block, count, depth, reinterpret_cast<float*>(weights));
        } else {
            pack_halves(shape.type, block, count, depth, weights);
        }
        destination += block_size(shape, count, depth);
    }
}

namespace {

// A block of vectors of the rows of `matrix` that its columns are in memory: as it lies there, line by line.
void pack_columns(const StridedMatrix& matrix, std::ptrdiff_t row, std::ptrdiff_t rows, std::ptrdiff_t count,
                  std::ptrdiff_t depth, float* destination) {
    std::ptrdiff_t from = matrix.rotation == 0 ? 0 : depth - matrix.rotation;
    for (std::ptrdiff_t k = 0; k < depth; ++k) {
        destination = std::copy_n(matrix.values + from * matrix.stride + row, rows, destination);
        destination = std::fill_n(destination, count - rows, 0.0F);
        if (++from == depth) from = 0;
    }
}

}    // namespace

void pack_strided(const PanelShape& shape, const StridedMatrix& matrix, int gates, std::ptrdiff_t units,
                  std::ptrdiff_t depth, const float* initial, unsigned char* destination) {
    const std::ptrdiff_t lanes = shape.lanes;
    const std::ptrdiff_t vectors = panels_for(units, shape.lanes) * gates;
    const std::ptrdiff_t block_vectors = std::ptrdiff_t{shape.panels_per_block} * shape.gates;
    std::vector<SourceRow> sources(static_cast<std::size_t>(block_vectors * lanes));
    for (std::ptrdiff_t first = 0; first < vectors; first += block_vectors) {
        const std::ptrdiff_t count = std::min(block_vectors, vectors - first);
        auto* starts = reinterpret_cast<float*>(destination);
        float* weights = starts + (shape.has_initial_accumulators ? count / shape.gates * lanes : 0);
        SourceRow* source = sources.data();
        for (std::ptrdiff_t v = first; v < first + count; ++v) {
            const std::ptrdiff_t unit = v / gates * lanes;
            const std::ptrdiff_t row = v % gates * units + unit;
            const std::ptrdiff_t rows = std::min(lanes, units - unit);
            for (std::ptrdiff_t lane = 0; lane < lanes; ++lane, ++source) {
                *starts++ = initial != nullptr && lane < rows ? initial[row + lane] : 0.0F;
                source->weights = lane < rows ? matrix.values + (row + lane) * matrix.row_stride : nullptr;
            }
        }
        if (matrix.stride == 1 && matrix.rotation == 0) {
            pack_float32(shape.lanes, sources.data(), count * lanes, depth, weights);
        } else {
            pack_columns(matrix, first * lanes, std::min(count * lanes, units - first * lanes), count * lanes, depth,
                         weights);
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
                weights[r * depth + k] = read_float(shape.type, source);
            }
        }
    }
    return rows;
}

namespace {

// A strip while a sparse matrix is packed: its outputs, and the groups in which one of them has a weight.
struct Strip {
    std::ptrdiff_t first_row;
    std::ptrdiff_t rows;
    SparseStrip stored;
    std::vector<std::uint16_t> groups;
};

template <class HasWeight>
std::vector<std::uint16_t> groups_with_weights(std::ptrdiff_t rows, std::ptrdiff_t depth, std::ptrdiff_t group,
                                               HasWeight has_weight) {
    std::vector<std::uint16_t> groups;
    for (std::ptrdiff_t k = 0; k < depth; k += group) {
        const std::ptrdiff_t end = std::min(k + group, depth);
        bool is_stored = false;
        for (std::ptrdiff_t r = 0; r < rows && !is_stored; ++r) {
            for (std::ptrdiff_t i = k; i < end; ++i) is_stored = is_stored || has_weight(r, i);
        }
        if (is_stored) groups.push_back(static_cast<std::uint16_t>(k / group));
    }
    return groups;
}

}    // namespace

double density(const float* values, const SparseOutputs& outputs, std::ptrdiff_t depth, std::ptrdiff_t group) {
    std::size_t stored = 0;
    for (std::ptrdiff_t gate = 0; gate < outputs.gates; ++gate) {
        for (std::ptrdiff_t unit = 0; unit < outputs.units; unit += kStripUnits) {
            const float* strip = values + (gate * outputs.units + unit) * depth;
            const auto has_weight = [&](std::ptrdiff_t r, std::ptrdiff_t k) { return strip[r * depth + k] != 0.0F; };
            stored += groups_with_weights(std::min(kStripUnits, outputs.units - unit), depth, group, has_weight).size();
        }
    }
    const std::ptrdiff_t blocks = outputs.strips() * ((depth + group - 1) / group);
    return blocks > 0 ? static_cast<double>(stored) / static_cast<double>(blocks) : 1.0;
}

std::size_t sparse_weights_size(const PanelShape& shape, std::ptrdiff_t entries) {
    const std::ptrdiff_t groups = product_of(entries, sizeof(std::uint16_t));
    return static_cast<std::size_t>(sum_of(weights_size(shape, product_of(entries, kStripUnits), shape.group), groups));
}

SparseMatrix pack_sparse(const PanelShape& shape, const SparseOutputs& outputs, const std::vector<SourceRow>& rows,
                         std::ptrdiff_t depth) {
    const bool quantised = is_quantised(shape.type);
    std::vector<QuantisedRow> integers;
    if (quantised) {
        for (const SourceRow& row : rows) integers.emplace_back(shape, row, depth);
    }
    std::vector<Strip> strips;
    const std::ptrdiff_t block_depth = quantised ? kQuantisedBlock : 1;    // also on tiers whose groups are larger
    const std::ptrdiff_t blocks_of_strip = (depth + block_depth - 1) / block_depth;
    std::size_t with_weights = 0;
    for (std::ptrdiff_t gate = 0; gate < outputs.gates; ++gate) {
        for (std::ptrdiff_t unit = 0; unit < outputs.units; unit += kStripUnits) {
            Strip strip{gate * outputs.units + unit, std::min(kStripUnits, outputs.units - unit), {}, {}};
            const auto has_weight = [&](std::ptrdiff_t r, std::ptrdiff_t k) {
                const auto row = static_cast<std::size_t>(strip.first_row + r);
                return quantised ? integers[row].values[static_cast<std::size_t>(k)] != 0
                                 : weight_of(rows[row], k) != 0.0F;
            };
            strip.groups = groups_with_weights(strip.rows, depth, shape.group, has_weight);
            with_weights += groups_with_weights(strip.rows, depth, block_depth, has_weight).size();
            const auto to_int = [](std::ptrdiff_t value) { return static_cast<std::int32_t>(value); };
            strip.stored = {to_int(static_cast<std::ptrdiff_t>(strip.groups.size())),
                            to_int(unit * outputs.gates + gate * shape.lanes), shape.lanes * outputs.gates,
                            to_int(std::min(kStripUnits, outputs.columns / outputs.gates - unit))};
            strips.push_back(std::move(strip));
        }
    }
    std::stable_sort(strips.begin(), strips.end(),
                     [](const Strip& a, const Strip& b) { return a.groups.size() > b.groups.size(); });
    // Strips that fill up the last block have the list of the one before them, no weights, and no results.
    const auto per_block = std::ptrdiff_t{shape.panels_per_block};
    while (strips.size() % static_cast<std::size_t>(per_block) != 0) {
        const Strip& last = strips.back();
        strips.push_back({0, 0, {last.stored.count, 0, 0, 0}, last.groups});
    }
    if (quantised) {
        for (std::size_t s = 0; s < strips.size(); ++s) {
            strips[s].stored.count = strips[s - s % static_cast<std::size_t>(per_block)].stored.count;
        }
    }
    const auto group_of = [](const Strip& strip, std::int32_t i) {
        const std::int32_t fillers = strip.stored.count - static_cast<std::int32_t>(strip.groups.size());
        if (i >= fillers) return strip.groups[static_cast<std::size_t>(i - fillers)];
        return strip.groups.empty() ? std::uint16_t{0} : strip.groups.front();
    };
    const std::ptrdiff_t blocks = static_cast<std::ptrdiff_t>(strips.size()) / per_block;
    SparseMatrix matrix{
        {}, 0, static_cast<double>(with_weights) / static_cast<double>(outputs.strips() * blocks_of_strip)};
    std::vector<unsigned char>& bytes = matrix.bytes;
    const auto append = [&bytes](auto value) {
        bytes.resize(bytes.size() + sizeof value);
        std::memcpy(bytes.data() + bytes.size() - sizeof value, &value, sizeof value);
    };
    const auto align = [&bytes] {
        bytes.resize((bytes.size() + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment);
    };
    bytes.resize(count_of<std::int64_t>(blocks) * sizeof(std::int64_t));
    for (std::ptrdiff_t block = 0; block < blocks; ++block) {
        align();
        const auto offset = static_cast<std::int64_t>(bytes.size());
        std::memcpy(bytes.data() + block * std::ptrdiff_t{sizeof offset}, &offset, sizeof offset);
        const Strip* const first = strips.data() + block * per_block;
        const auto for_lanes = [&](auto write_lane) {
            for (std::ptrdiff_t s = 0; s < per_block; ++s) {
                for (std::ptrdiff_t r = 0; r < kStripUnits; ++r) {
                    write_lane(r < first[s].rows, static_cast<std::size_t>(first[s].first_row + r));
                }
            }
        };
        const std::int32_t common = first[per_block - 1].stored.count;
        const auto for_entries = [&](auto write_entry) {
            for (std::int32_t i = 0; i < first->stored.count; ++i) {
                for (std::ptrdiff_t s = 0; s < per_block && i < first[s].stored.count; ++s) write_entry(s, i);
            }
        };
        for (std::ptrdiff_t s = 0; s < per_block; ++s) append(first[s].stored);
        for_lanes([&](bool is_row, std::size_t row) { append(is_row ? rows[row].initial : 0.0F); });
        if (quantised) for_lanes([&](bool is_row, std::size_t row) { append(is_row ? integers[row].scale : 0.0F); });
        if (shape.compensated) {
            for_lanes(
                [&](bool is_row, std::size_t row) { append(is_row ? integers[row].compensation() : std::int32_t{0}); });
        }
        for_entries([&](std::ptrdiff_t s, std::int32_t i) {
            const Strip& strip = first[s];
            const std::int32_t fillers = strip.stored.count - static_cast<std::int32_t>(strip.groups.size());
            const std::ptrdiff_t rows_of_entry = i < fillers ? 0 : strip.rows;
            const std::ptrdiff_t k = std::ptrdiff_t{group_of(strip, i)} * shape.group;
            for (std::ptrdiff_t r = 0; r < kStripUnits; ++r) {
                const auto row = static_cast<std::size_t>(strip.first_row + r);
                if (quantised) {
                    for (std::ptrdiff_t g = k; g < k + shape.group; ++g) {
                        append(r < rows_of_entry ? integers[row].values[static_cast<std::size_t>(g)] : std::int8_t{0});
                    }
                } else {
                    std::array<unsigned char, sizeof(float)> element{};
                    const unsigned char* end =
                        write_float(shape.type, r < rows_of_entry ? weight_of(rows[row], k) : 0.0F, element.data());
                    bytes.insert(bytes.end(), static_cast<const unsigned char*>(element.data()), end);
                }
            }
        });
        for_entries([&](std::ptrdiff_t s, std::int32_t i) {
            append(group_of(first[s], i));
            ++matrix.entries;
            if (i >= common) append(static_cast<std::uint16_t>(s));
        });
    }
    align();
    return matrix;
}

UnpackedRows unpack_sparse(const PanelShape& shape, const SparseOutputs& outputs, const PackedMatrix& matrix) {
    const std::ptrdiff_t total = outputs.gates * outputs.units;
    const bool quantised = is_quantised(shape.type);
    const std::ptrdiff_t depth = matrix.depth;
    UnpackedRows rows;
    rows.weights.resize(count_of<float>(total, depth));
    rows.initial.resize(count_of<float>(total));
    if (quantised) rows.scales.resize(count_of<float>(total));
    const auto* data = static_cast<const unsigned char*>(matrix.data);
    const auto per_block = static_cast<std::size_t>(shape.panels_per_block);
    std::vector<SparseStrip> strips(per_block);
    for (std::ptrdiff_t block = 0; block < matrix.blocks; ++block) {
        const unsigned char* source = data + read<std::int64_t>(data + block * std::ptrdiff_t{sizeof(std::int64_t)});
        for (SparseStrip& strip : strips) {
            strip = read<SparseStrip>(source);
            source += sizeof strip;
        }
        const auto row_of = [&](const SparseStrip& strip, std::ptrdiff_t lane) {
            const std::ptrdiff_t gate = strip.place / shape.lanes % outputs.gates;
            const std::ptrdiff_t unit = (strip.place - gate * shape.lanes) / outputs.gates + lane;
            const bool is_row = lane < strip.units && unit < outputs.units;
            return is_row ? gate * outputs.units + unit : -1;
        };
        const auto read_lanes = [&](std::vector<float>& values) {
            for (const SparseStrip& strip : strips) {
                for (std::ptrdiff_t lane = 0; lane < kStripUnits; ++lane) {
                    const float value = read_float(WeightType::float32, source);
                    const std::ptrdiff_t row = row_of(strip, lane);
                    if (row >= 0) values[static_cast<std::size_t>(row)] = value;
                }
            }
        };
        read_lanes(rows.initial);
        if (quantised) read_lanes(rows.scales);
        if (shape.compensated) source += per_block * kStripUnits * sizeof(std::int32_t);
        std::vector<const SparseStrip*> entries;
        for (std::int32_t i = 0; i < strips.front().count; ++i) {
            for (const SparseStrip& strip : strips) {
                if (i < strip.count) entries.push_back(&strip);
            }
        }
        const std::size_t common = static_cast<std::size_t>(strips.back().count) * per_block;
        std::size_t entry = 0;
        const std::size_t element = quantised ? 1 : shape.type == WeightType::float32 ? sizeof(float) : 2;
        const unsigned char* groups =
            source + entries.size() * static_cast<std::size_t>(kStripUnits * shape.group) * element;
        for (const SparseStrip* strip : entries) {
            const std::ptrdiff_t first = std::ptrdiff_t{read<std::uint16_t>(groups)} * shape.group;
            groups += (entry++ < common ? 1 : 2) * sizeof(std::uint16_t);
            for (std::ptrdiff_t lane = 0; lane < kStripUnits; ++lane) {
                const std::ptrdiff_t row = row_of(*strip, lane);
                for (std::ptrdiff_t k = first; k < first + shape.group; ++k) {
                    const float value =
                        quantised ? static_cast<float>(read<std::int8_t>(source++)) : read_float(shape.type, source);
                    if (row >= 0 && k < depth) rows.weights[static_cast<std::size_t>(row * depth + k)] = value;
                }
            }
        }
    }
    return rows;
}

}    // namespace fusedcell
