// Zeros among the inputs are left out without a change of a bit: each row against the same with every input multiplied.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <vector>

#include "check.h"
#include "cpu/dispatch.h"
#include "kernels/simd/float_mode.h"
#include "model/stream.h"
#include "testing/random_stack.h"

namespace fusedcell::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

int rows_without_zeros = 0;

// Stands in for a kernel, to know that it ran.
template <auto kType>
struct Counted {
    static inline decltype(MatrixKernel<LinearRow>::run) kernel = nullptr;
    static void run(const PackedMatrix& matrix, const LinearRow* rows, std::ptrdiff_t num_rows,
                    const BlockRange& blocks) {
        ++rows_without_zeros;
        kernel(matrix, rows, num_rows, blocks);
    }
    static void replace_in(KernelTable& table) {
        auto& nonzero = (table.*kType).nonzero.run;
        kernel = nonzero;
        if (nonzero != nullptr) nonzero = &run;
    }
};

struct Tables {
    KernelTable without_zeros;
    KernelTable with_zeros;

    explicit Tables(const KernelTable& tier) : without_zeros(tier), with_zeros(tier) {
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) Counted<&KernelTable::name>::replace_in(without_zeros);
#include "kernels/weight_types.inc"
        with_zeros.list_nonzeros = [](const float*, std::ptrdiff_t, std::uint16_t*, NonzeroInput*) { return false; };
    }
};

// The sign and payload of a NaN are the CPU's.
bool same_bits(const float* a, const float* b, std::ptrdiff_t size) {
    for (std::ptrdiff_t i = 0; i < size; ++i) {
        if (std::isnan(a[i]) ? !std::isnan(b[i]) : std::memcmp(a + i, b + i, sizeof(float)) != 0) return false;
    }
    return true;
}

class Drawn {
public:
    std::ptrdiff_t below(std::ptrdiff_t end) {
        return std::min(static_cast<std::ptrdiff_t>((random_() + 0.5F) * static_cast<float>(end)), end - 1);
    }
    float one_of(std::initializer_list<float> values) {
        return values.begin()[below(static_cast<std::ptrdiff_t>(values.size()))];
    }
    /// `nonzeros` values of `of()` in drawn places; zeros of both signs elsewhere.
    template <class Of>
    std::vector<float> row(std::ptrdiff_t size, std::ptrdiff_t nonzeros, Of of) {
        std::vector<float> x(static_cast<std::size_t>(size));
        for (std::ptrdiff_t k = 0; k < size; ++k) {
            x[static_cast<std::size_t>(k)] = k < nonzeros ? of() : one_of({0.0F, -0.0F});
        }
        for (std::ptrdiff_t k = size - 1; k > 0; --k) {
            std::swap(x[static_cast<std::size_t>(k)], x[static_cast<std::size_t>(below(k + 1))]);
        }
        return x;
    }
    float normal() { return 2.0F * random_(); }

private:
    Random random_;
};

// Sums that are zero of either sign, begin with a denormal, or underflow on the way, in one matrix with others.
class Matrix {
public:
    Matrix(Drawn& drawn, std::ptrdiff_t units, std::ptrdiff_t depth) : units_(units), depth_(depth) {
        for (std::ptrdiff_t i = 0; i < units; ++i) {
            bias_.push_back(drawn.one_of({0.0F, -0.0F, 1e-39F, -1e-39F, drawn.normal()}));
            const bool is_small = drawn.below(2) == 0;
            for (std::ptrdiff_t k = 0; k < depth; ++k) {
                weights_.push_back(is_small ? drawn.one_of({0.0F, -0.0F, 1e-39F, -1e-39F, 1e-30F, -1e-30F})
                                            : drawn.normal());
            }
        }
    }
    SourceRow row(std::ptrdiff_t unit) const {
        return {weights_.data() + unit * depth_, bias_[static_cast<std::size_t>(unit)]};
    }
    void spoil(float weight) { weights_[static_cast<std::size_t>(units_ * depth_ / 2)] = weight; }

private:
    std::ptrdiff_t units_;
    std::ptrdiff_t depth_;
    std::vector<float> weights_;
    std::vector<float> bias_;
};

class Packed {
public:
    Packed(const KernelTable& table, WeightType type, const Matrix& matrix, std::ptrdiff_t units, std::ptrdiff_t depth)
        : linear_(table, type, &WeightKernels::linear, 1, units, depth, units), memory_(linear_.nbytes()) {
        const auto row = [&](int, std::ptrdiff_t unit) { return matrix.row(unit); };
        linear_.pack(row, memory_.data());
        linear_.leave_out_zeros(table, row);
        linear_.reserve(1, space_);
    }
    std::vector<float> times(const std::vector<float>& x, std::ptrdiff_t units) {
        std::vector<float> y(static_cast<std::size_t>(units), kNan);
        const ScopedFloatMode mode;
        const bool has_zeros = linear_.has_zeros(x.data(), space_);
        const LinearRow row{has_zeros ? static_cast<const void*>(&space_.nonzero) : x.data(), y.data()};
        linear_.run(has_zeros ? &WeightKernels::nonzero : &WeightKernels::linear, &row, 1,
                    {0, linear_.blocks(), false});
        return y;
    }

private:
    PackedLinear linear_;
    AlignedBuffer memory_;
    InputSpace space_;
};

void multiply(const Tables& tables, WeightType type, std::ptrdiff_t units, std::ptrdiff_t depth, bool expected) {
    Drawn drawn;
    Matrix matrix(drawn, units, depth);
    const auto check = [&](std::ptrdiff_t nonzeros, bool may_leave_out, auto of) {
        Packed some(tables.without_zeros, type, matrix, units, depth);
        Packed all(tables.with_zeros, type, matrix, units, depth);
        const std::vector<float> x = drawn.row(depth, nonzeros, of);
        const int before = rows_without_zeros;
        CHECK(same_bits(some.times(x, units).data(), all.times(x, units).data(), units));
        const bool is_left_out = rows_without_zeros > before;
        CHECK(is_left_out <= may_leave_out);
        if (nonzeros <= depth / 3) CHECK(is_left_out == may_leave_out);
        if (nonzeros == depth) CHECK(!is_left_out);
    };
    for (const std::ptrdiff_t nonzeros :
         {std::ptrdiff_t{0}, std::ptrdiff_t{1}, depth / 10, depth / 3, depth / 2, depth}) {
        check(nonzeros, expected, [&] { return drawn.one_of({1e-20F, -1e-20F, drawn.normal() + 1.0F}); });
    }
    check(depth / 3, expected, [&] { return drawn.one_of({1e-39F, -1e-39F, 1.0F}); });
    check(depth / 4, expected, [&] { return drawn.one_of({kInfinity, -kInfinity, 1.0F}); });
    check(depth / 4, expected, [&] { return drawn.one_of({kNan, 1.0F}); });
    // The last rounds to infinity in bfloat16 and float16.
    const float largest = std::numeric_limits<float>::max();
    for (const float weight : {kInfinity, -kInfinity, kNan, largest}) {
        matrix.spoil(weight);
        check(depth / 3, expected && weight == largest && type == WeightType::float32, [&] { return drawn.normal(); });
    }
}

void step(const Tables& tables, const Geometry& geometry, WeightType type, bool general, int num_threads,
          bool expected) {
    Drawn drawn;
    StreamState some(random_stack(geometry, tables.without_zeros, type, general), 1, num_threads);
    StreamState all(random_stack(geometry, tables.with_zeros, type, general), 1, num_threads);
    const std::ptrdiff_t inputs = geometry.input_size;
    std::vector<float> y(static_cast<std::size_t>(geometry.output_size()));
    std::vector<float> expected_y(y.size());
    rows_without_zeros = 0;
    int expected_rows = 0;
    for (const std::ptrdiff_t nonzeros : {inputs / 4, std::ptrdiff_t{0}, inputs, std::ptrdiff_t{1}, inputs / 2,
                                          inputs * 3 / 4, inputs / 10, inputs, inputs / 3}) {
        const std::vector<float> x = drawn.row(inputs, nonzeros, [&] { return drawn.normal() + 1.0F; });
        some.step(x.data(), y.data());
        all.step(x.data(), expected_y.data());
        CHECK(same_bits(y.data(), expected_y.data(), geometry.output_size()));
        CHECK(same_bits(some.states().c(), all.states().c(), static_cast<std::ptrdiff_t>(some.states().c_floats())));
        if (expected && nonzeros <= inputs / 3) ++expected_rows;
    }
    CHECK(rows_without_zeros >= expected_rows && (expected || rows_without_zeros == 0));
}

// Of halves, tiers without multiply-adds have none.
bool has_kernel(const KernelTable& tier, WeightType type) { return kernels_for(tier, type).nonzero.run != nullptr; }

int run_tier(const KernelTable& tier) {
    const Tables tables(tier);
    CHECK(has_kernel(tier, WeightType::float32));
    CHECK(!has_kernel(tier, WeightType::int8) && !has_kernel(tier, WeightType::int8_int16));
    int runs = 0;
    for (const WeightType type : {WeightType::float32, WeightType::bfloat16, WeightType::float16}) {
        const bool expected = has_kernel(tier, type);
        for (const auto& [units, depth] : std::initializer_list<std::pair<std::ptrdiff_t, std::ptrdiff_t>>{
                 {400, 32}, {257, 63}, {97, 150}, {1, 12500}}) {
            multiply(tables, type, units, depth, expected);
            ++runs;
        }
        multiply(tables, type, 40, 32, false);      // too small
        multiply(tables, type, 1000, 31, false);    // too flat
        for (const CellKind kind : kKinds) {
            step(tables, {kind, 230, 81, 0, 2, 1}, type, false, 1, expected);
            ++runs;
        }
    }
    for (const CellKind kind : kKinds) {
        step(tables, {kind, 200, 70, 0, 1, 1}, WeightType::float32, true, 1, true);
        step(tables, {kind, 200, 200, 0, 1, 1}, WeightType::float32, false, 2, true);
    }
    step(tables, {CellKind::kLstm, 200, 200, 40, 2, 1}, WeightType::float32, false, 1, true);
    return runs;
}

}    // namespace
}    // namespace fusedcell::test

int main() {
    using namespace fusedcell;
    int runs = 0;
    std::vector<decltype(MatrixKernel<LinearRow>::run)> tried;    // some tiers have those of another
    for (const KernelTable* tier : available_tiers()) {
        const auto kernel = tier->float32.nonzero.run;
        if (std::find(tried.begin(), tried.end(), kernel) != tried.end()) continue;
        tried.push_back(kernel);
        runs += test::run_tier(*tier);
    }
    std::printf("%d matrices and stacks with zeros among their inputs and without\n", runs);
    return 0;
}
