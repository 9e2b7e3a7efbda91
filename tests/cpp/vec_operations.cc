// Every operation of a tier's vector type and every dot product on its own, on values worked by hand. Compiled once a
// tier, with its flags; as in the tier's own translation unit, nothing is included that has inline functions.
#include FUSEDCELL_DOTS

#include <math.h>

#include "check.h"
#include "kernels/generic/activations.h"
#include "kernels/generic/weights.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

struct Case {
    float a, b, c, expected;
};

bool same(float a, float b) { return (a != a && b != b) || memcmp(&a, &b, sizeof a) == 0; }

/// Each case in each lane, beside each other case.
template <ptrdiff_t kCases, class Operation>
void check(const Case (&cases)[kCases], Operation operation) {
    for (ptrdiff_t shift = 0; shift < kCases; ++shift) {
        float a[kLanes], b[kLanes], c[kLanes], y[kLanes];
        const auto at = [&](ptrdiff_t lane) { return cases[(lane + shift) % kCases]; };
        for (ptrdiff_t lane = 0; lane < kLanes; ++lane) {
            a[lane] = at(lane).a;
            b[lane] = at(lane).b;
            c[lane] = at(lane).c;
        }
        Store(y, operation(Load(a), Load(b), Load(c)));
        for (ptrdiff_t lane = 0; lane < kLanes; ++lane) CHECK(same(y[lane], at(lane).expected));
    }
}

void arithmetic_rounds_once() {
    check({{1, 2, 0, 3},
           {0x1p24F, 1, 0, 0x1p24F},
           {0x1p24F, 3, 0, 0x1.000004p24F},
           {INFINITY, 1, 0, INFINITY},
           {INFINITY, -INFINITY, 0, NAN},
           {-0.0F, -0.0F, 0, -0.0F}},
          [](F32 a, F32 b, F32) { return Add(a, b); });
    check({{1, 2, 0, -1}, {0x1p24F, -1, 0, 0x1p24F}, {1, 1, 0, 0}, {NAN, 1, 0, NAN}, {-0.0F, 0, 0, -0.0F}},
          [](F32 a, F32 b, F32) { return Sub(a, b); });
    check({{3, -2, 0, -6},
           {0x1.001p0F, 0x1.001p0F, 0, 0x1.002p0F},
           {0x1p100F, 0x1p100F, 0, INFINITY},
           {0, -1, 0, -0.0F},
           {0, INFINITY, 0, NAN}},
          [](F32 a, F32 b, F32) { return Mul(a, b); });
    check({{1, 3, 0, 0x1.555556p-2F},
           {-2, 3, 0, -0x1.555556p-1F},
           {1, 0, 0, INFINITY},
           {0, 0, 0, NAN},
           {10, 7, 0, 0x1.6db6dcp0F},
           {1, -INFINITY, 0, -0.0F}},
          [](F32 a, F32 b, F32) { return Div(a, b); });
    check({{4, 0, 0, 2},
           {2, 0, 0, 0x1.6a09e6p0F},
           {0x1p-126F, 0, 0, 0x1p-63F},
           {INFINITY, 0, 0, INFINITY},
           {-0.0F, 0, 0, -0.0F},
           {-1, 0, 0, NAN},
           {NAN, 0, 0, NAN}},
          [](F32 a, F32, F32) { return Sqrt(a); });
    // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24, whose last term a rounded product would lose.
    check({{0x1.001p0F, 0x1.001p0F, -0x1.002p0F, 0x1p-24F},
           {2, 3, 4, 10},
           {-0.5F, 0.25F, 1, 0x1.cp-1F},
           {0, INFINITY, 1, NAN},
           {1, 1, NAN, NAN},
           {0x1p100F, 0x1p100F, -INFINITY, -INFINITY},
           {0x1.fffffep0F, 0x1.fffffep0F, -0x1.fffffcp1F, 0x1p-46F}},
          [](F32 a, F32 b, F32 c) { return MulAdd(a, b, c); });
}

void what_compares_lets_nan_through() {
    check({{0.5F, -1, 1, 0.5F},
           {-2, -1, 1, -1},
           {2, -1, 1, 1},
           {NAN, -1, 1, NAN},
           {INFINITY, -1, 1, 1},
           {-INFINITY, -1, 1, -1}},
          [](F32 a, F32 low, F32 high) { return Clamp(a, low, high); });
    check({{2, 0, 0, 2},
           {-2, 0, 0, 0},
           {-0.0F, 0, 0, 0},
           {NAN, 0, 0, NAN},
           {INFINITY, 0, 0, INFINITY},
           {-INFINITY, 0, 0, 0}},
          [](F32 a, F32, F32) { return Relu(a); });
    check({{1, 2, 5, 5}, {2, 1, 5, -5}, {1, 1, 5, -5}, {NAN, 1, 5, -5}, {1, NAN, 5, -5}, {-0.0F, 0, 5, -5}},
          [](F32 a, F32 b, F32 x) { return SelectLess(a, b, x, Broadcast(-5.0F)); });
}

void powers_of_two_come_from_the_low_bits_of_a_sum() {
    const Case cases[] = {{0x1.8p23F, 0, 0, 1},
                          {0x1.8p23F + 30, 0, 0, 0x1p30F},
                          {0x1.8p23F - 30, 0, 0, 0x1p-30F},
                          {0x1.8p23F + 1, 0, 0, 2},
                          {0x1.8p23F - 1, 0, 0, 0.5F}};
    check(cases, [](F32 a, F32, F32) { return PowerOfTwo(a); });
}

void floats_are_mantissas_times_powers_of_two() {
    check({{1, 0, 0, 0},
           {0x1.6a09e6p0F, 0, 0, 1},
           {0x1.6a09e4p0F, 0, 0, 0},
           {0x1.8p-126F, 0, 0, -125},
           {3e38F, 0, 0, 128}},
          [](F32 a, F32, F32) { return Exponent(a); });
    check({{1, 0, 0, 1},
           {0x1.6a09e6p9F, 0, 0, 0x1.6a09e6p-1F},
           {0x1.6a09e4p9F, 0, 0, 0x1.6a09e4p0F},
           {0x1.8p-126F, 0, 0, 0.75F}},
          [](F32 a, F32, F32) { return Mantissa(a); });
}

template <int kDistance>
void lanes_change_places() {
    if constexpr (kDistance > 0) {
        float x[kLanes], y[kLanes];
        for (ptrdiff_t i = 0; i < kLanes; ++i) x[i] = static_cast<float>(i);
        Store(y, Exchanged<kDistance>(Load(x)));
        for (ptrdiff_t i = 0; i < kLanes; ++i) CHECK(y[i] == x[i ^ kDistance]);
        lanes_change_places<kDistance / 2>();
    }
}

void the_first_lanes_are_loaded_and_stored_and_no_others() {
    for (ptrdiff_t n = 0; n < kLanes; ++n) {
        float in[kLanes], out[kLanes], y[kLanes];
        for (ptrdiff_t i = 0; i < kLanes; ++i) {
            in[i] = static_cast<float>(i + 1);
            out[i] = -1.0F;
        }
        Store(y, LoadFirst(in, n));
        for (ptrdiff_t i = 0; i < kLanes; ++i) CHECK(same(y[i], i < n ? in[i] : 0.0F));
        StoreFirst(out, Load(in), n);
        for (ptrdiff_t i = 0; i < kLanes; ++i) CHECK(same(out[i], i < n ? in[i] : -1.0F));
    }
}

void magnitudes_order_as_bits() {
    for (ptrdiff_t lane = 0; lane < kLanes; ++lane) {
        float x[kLanes];
        for (float& value : x) value = 0.5F;
        I32 magnitudes = MaxMagnitude(ZeroI32(), Load(x));
        CHECK(LargestLane(magnitudes) == 0x3f000000);
        x[lane] = -2.0F;
        magnitudes = MaxMagnitude(magnitudes, Load(x));
        CHECK(LargestLane(magnitudes) == 0x40000000);
        x[lane] = -INFINITY;
        CHECK(LargestLane(MaxMagnitude(magnitudes, Load(x))) == 0x7f800000);
        x[lane] = NAN;
        CHECK(LargestLane(MaxMagnitude(magnitudes, Load(x))) > 0x7f800000);
        x[lane] = -0.0F;
        CHECK(LargestLane(MaxMagnitude(magnitudes, Load(x))) == 0x40000000);
    }
}

void zeros_are_not_counted() {
    for (ptrdiff_t lane = 0; lane < kLanes; ++lane) {
        const float values[] = {1.0F, -2.0F, -INFINITY, NAN, 0.0F, -0.0F};
        for (const float value : values) {
            float x[kLanes] = {};
            x[lane] = value;
            const I32 counts = CountNonzero(CountNonzero(ZeroI32(), Load(x)), Load(x));
            int32_t lanes[kLanes];
            memcpy(lanes, &counts, sizeof lanes);
            for (ptrdiff_t i = 0; i < kLanes; ++i) CHECK(lanes[i] == (i == lane && value != 0.0F ? 2 : 0));
        }
    }
}

// A template, because tiers that narrow one vector at a time have no other StoreInt8.
template <int kVectors>
void StoreSeveral(int8_t* q, const float* x) {
    F32 vectors[kVectors];
    for (ptrdiff_t v = 0; v < kVectors; ++v) vectors[v] = Load(x + v * kLanes);
    if constexpr (kVectors > 1) {
        StoreInt8(q, vectors);
    } else {
        StoreInt8(q, vectors[0]);
    }
}

void bytes_are_rounded_to_nearest_even() {
    const float values[] = {0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 126.5F, -126.5F, 127, -127, 0.49F, -3.51F};
    const int8_t expected[] = {0, 2, 2, 0, -2, 126, -126, 127, -127, 0, -4};
    constexpr ptrdiff_t kValues = sizeof expected;
    for (ptrdiff_t shift = 0; shift < kValues; ++shift) {
        float x[kNarrowed * kLanes];
        int8_t q[kNarrowed * kLanes];
        for (ptrdiff_t i = 0; i < kNarrowed * kLanes; ++i) x[i] = values[(i + shift) % kValues];
        StoreInt8(q, Load(x));
        for (ptrdiff_t i = 0; i < kLanes; ++i) CHECK(q[i] == expected[(i + shift) % kValues]);
        StoreSeveral<kNarrowed>(q, x);
        for (ptrdiff_t i = 0; i < kNarrowed * kLanes; ++i) CHECK(q[i] == expected[(i + shift) % kValues]);
    }
}

// Halves as IEEE 754 and bfloat16 define them, with a denormal half and the last one before it.
template <class Loads>
void check_halves(const uint16_t (&bits)[8], const float (&expected)[8]) {
    for (ptrdiff_t shift = 0; shift < 8; ++shift) {
        uint16_t weights[kLanes];
        float y[kLanes];
        for (ptrdiff_t lane = 0; lane < kLanes; ++lane) weights[lane] = bits[(lane + shift) % 8];
        Store(y, LoadWeights<FloatDot<Loads>>(weights, 0));
        for (ptrdiff_t lane = 0; lane < kLanes; ++lane) CHECK(same(y[lane], expected[(lane + shift) % 8]));
    }
}

void halves_are_widened_exactly() {
    check_halves<Float16Loads>({0x3c00, 0x0001, 0x8000, 0x7c00, 0x7bff, 0x3555, 0x0400, 0x83ff},
                               {1, 0x1p-24F, -0.0F, INFINITY, 65504, 0x1.554p-2F, 0x1p-14F, -0x1.ff8p-15F});
    check_halves<Bfloat16Loads>({0x3f80, 0xbf80, 0x8000, 0x7f80, 0x7fc0, 0x3eab, 0x0080, 0x4049},
                                {1, -1, -0.0F, INFINITY, NAN, 0x1.56p-2F, 0x1p-126F, 0x1.92p1F});
}

// Weights and inputs that have no pattern, from -127 to 127; of floats, small enough for exact sums.
int value(ptrdiff_t seed) { return static_cast<int>((seed * 7919 + 104729) % 255) - 127; }

/// The sums of kRows rows and kVectors vectors over `depth` k against plain loops over integers. Where kWhole, rows
/// that share an accumulator are the planes of one of 16 bits.
template <class AnyDot, int kRows, int kVectors, class X, bool kWhole = false>
void check_sums(ptrdiff_t depth, bool largest) {
    using Element = typename AnyDot::Element;
    constexpr ptrdiff_t kMostDepth = 40;
    constexpr ptrdiff_t kLanesAll = kVectors * kLanes;
    const auto weight = [&](ptrdiff_t k, ptrdiff_t lane) { return largest ? -127 : value(1 + k * 131 + lane * 17); };
    const auto input = [&](ptrdiff_t k, ptrdiff_t row) { return largest ? 127 : value(5 + k * 29 + row * 57); };
    alignas(64) Element weights[kMostDepth * kLanesAll] = {};
    for (ptrdiff_t k = 0; k < depth; ++k) {
        for (ptrdiff_t lane = 0; lane < kLanesAll; ++lane) {
            const ptrdiff_t group = k / AnyDot::kGroup * AnyDot::kGroup * kLanesAll;
            weights[group + lane * AnyDot::kGroup + k % AnyDot::kGroup] = static_cast<Element>(weight(k, lane));
        }
    }
    X inputs[kRows][kMostDepth] = {};
    const X* x[kRows];
    for (ptrdiff_t row = 0; row < kRows; ++row) {
        for (ptrdiff_t k = 0; k < depth; ++k) inputs[row][k] = static_cast<X>(input(k, row));
        x[row] = inputs[row];
    }
    constexpr int kSets = kRows / AnyDot::kRows;
    typename AnyDot::Accumulator acc[kSets][kVectors];
    for (int v = 0; v < kVectors; ++v) {
        int32_t start[kLanes] = {};
        for (ptrdiff_t lane = 0; lane < kLanes; ++lane) {
            for (ptrdiff_t k = 0; k < depth; ++k) start[lane] -= 128 * weight(k, v * kLanes + lane);
        }
        for (int s = 0; s < kSets; ++s) acc[s][v] = AnyDot::Start(start);
    }
    Accumulate<AnyDot>(acc, weights, kLanesAll * AnyDot::kGroup, x, depth);
    for (int row = 0; row < kRows; ++row) {
        for (int v = 0; v < kVectors; ++v) {
            float y[kLanes];
            Store(y, ToFloat(AnyDot::Sums(acc[row / AnyDot::kRows][v], row % AnyDot::kRows)));
            for (ptrdiff_t lane = 0; lane < kLanes; ++lane) {
                int expected = 0;
                for (ptrdiff_t k = 0; k < depth; ++k) {
                    const int x_k = kWhole ? 128 * input(k, row / 2 * 2) + input(k, row / 2 * 2 + 1) : input(k, row);
                    expected += weight(k, v * kLanes + lane) * x_k;
                }
                CHECK(y[lane] == static_cast<float>(expected));
            }
        }
    }
}

template <class AnyDot, class X, bool kWhole = false>
void check_dot() {
    for (ptrdiff_t depth = 1; depth <= 33; ++depth) {
        for (int largest = 0; largest < 2; ++largest) {
            check_sums<AnyDot, AnyDot::kRows, 1, X, kWhole>(depth, largest != 0);
            check_sums<AnyDot, AnyDot::kRows, 5, X, kWhole>(depth, largest != 0);
            check_sums<AnyDot, 2 * AnyDot::kRows, 4, X, kWhole>(depth, largest != 0);
        }
    }
}

}    // namespace

void check_vec_operations();
void check_vec_operations() {
    arithmetic_rounds_once();
    what_compares_lets_nan_through();
    powers_of_two_come_from_the_low_bits_of_a_sum();
    floats_are_mantissas_times_powers_of_two();
    lanes_change_places<kLanes / 2>();
    the_first_lanes_are_loaded_and_stored_and_no_others();
    magnitudes_order_as_bits();
    zeros_are_not_counted();
    bytes_are_rounded_to_nearest_even();
    halves_are_widened_exactly();
    check_dot<FloatDot<Float32Loads>, float>();
    check_dot<Dot, int8_t>();
    check_dot<RowsDot, int8_t>();
    check_dot<Int16Dot, int8_t, kWholeInt16>();
}

// For test_multiply_adds.cc, 16 lanes each: one x, chains of four of them, and the polynomial of 2^f.
void multiply_adds(const float* w, const float* x, const float* c, float* y);
void multiply_adds(const float* w, const float* x, const float* c, float* y) {
    for (ptrdiff_t i = 0; i < 16; i += kLanes) Store(y + i, MulAdd(Load(w + i), Broadcast(*x), Load(c + i)));
}
void multiply_adds_of_loop(const float* w, const float* x, const float* c, float* y);
void multiply_adds_of_loop(const float* w, const float* x, const float* c, float* y) {
    constexpr ptrdiff_t kVectors = 16 / kLanes;
    F32 acc[1][kVectors];
    for (ptrdiff_t v = 0; v < kVectors; ++v) acc[0][v] = Load(c + v * kLanes);
    const float* const rows[1] = {x};
    Accumulate<FloatDot<Float32Loads>>(acc, w, 16, rows, 4);
    for (ptrdiff_t v = 0; v < kVectors; ++v) Store(y + v * kLanes, acc[0][v]);
}
void exp2_polynomials(const float* f, float* y);
void exp2_polynomials(const float* f, float* y) {
    for (ptrdiff_t i = 0; i < 16; i += kLanes) Store(y + i, Exp2Polynomial(Load(f + i)));
}

}    // namespace fusedcell::FUSEDCELL_ISA
