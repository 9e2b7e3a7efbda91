// Multiply-adds of every tier that this CPU has against fmaf, by themselves and in a loop over k, where rounding is
// hard: near and in the middle of two floats, in cancellation, at both ends of a float's range. An argument is the
// number of rounds, of 64 multiply-adds each.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>

#include "check.h"
#include "cpu/dispatch.h"
#include "cpu/features.h"
#include "kernels/simd/float_mode.h"

namespace fusedcell {

#define FUSEDCELL_TIER(isa, required_features)                                            \
    namespace isa {                                                                       \
    void multiply_adds(const float* w, const float* x, const float* c, float* y);         \
    void multiply_adds_of_loop(const float* w, const float* x, const float* c, float* y); \
    void exp2_polynomials(const float* f, float* y);                                      \
    }
#define FUSEDCELL_OVERLAY(isa, base, required_features)
#include "kernels/tiers.inc"

namespace {

constexpr int kLanesOfRound = 16;
constexpr int kDepth = 4;

struct Round {
    float w[kDepth][kLanesOfRound];
    float x[kDepth];
    float c[kDepth + 1][kLanesOfRound];    // before each step, and after the last
};

float flushed(float a) { return std::fabs(a) < std::numeric_limits<float>::min() ? std::copysign(0.0F, a) : a; }

/// fmaf in the kernels' mode. x86 flushes what is below 2^-126 once it is rounded to 24 bits; ARM what is below before,
/// which differs only where rounding has made 2^-126 of it.
float expected(float a, float b, float c) {
    constexpr float kSmallest = std::numeric_limits<float>::min();
    a = flushed(a);
    b = flushed(b);
    c = flushed(c);
    const float y = std::fma(a, b, c);
    if (!(std::fabs(y) <= kSmallest) || y == 0.0F) return y;
    // The same 2^64 times as large, which no exponent limits: then c is below 2^-77, and one of a and b below 2^-38.
    const bool first_is_smaller = std::fabs(a) < std::fabs(b);
    (first_is_smaller ? a : b) *= 0x1p64F;
    const float large = std::fma(a, b, c * 0x1p64F);
#if !defined(__x86_64__) && !defined(_M_X64)
    if (std::fabs(large) == kSmallest * 0x1p64F) {
        const double rest = std::fma(static_cast<double>(a), static_cast<double>(b),
                                     static_cast<double>(c) * 0x1p64 - static_cast<double>(large));
        if (rest != 0.0 && (rest < 0.0) == (large > 0.0F)) return std::copysign(0.0F, large);
    }
#endif
    return std::fabs(large) < kSmallest * 0x1p64F ? std::copysign(0.0F, large) : large * 0x1p-64F;
}

class Draw {
public:
    std::uint32_t bits(int count) { return static_cast<std::uint32_t>(generator_() >> (64 - count)); }
    int integer(int low, int high) {
        return low + static_cast<int>(generator_() % static_cast<std::uint64_t>(high - low + 1));
    }
    float any() {
        const std::uint32_t all = bits(32);
        float value;
        std::memcpy(&value, &all, sizeof value);
        return value;
    }
    float sign() { return bits(1) != 0 ? -1.0F : 1.0F; }
    /// With the given exponent.
    float of_exponent(int exponent) {
        return sign() * std::ldexp(static_cast<float>((1U << 23) + bits(23)), exponent - 23);
    }
    /// What has few bits.
    float short_number() { return sign() * std::ldexp(static_cast<float>(1 + bits(integer(1, 9))), integer(-12, 4)); }

    float input() {
        switch (integer(0, 7)) {
            case 0: return any();
            case 1: return short_number();
            case 2: return of_exponent(integer(-60, 60));
            case 3: return special();
            default: return 1.0F - std::ldexp(static_cast<float>(bits(integer(1, 11))), -23);    // 1 - i 2^-23
        }
    }

    /// A weight to which x and c are hard.
    float weight(float x, float c) {
        const int of_c = std::isfinite(c) && c != 0.0F ? std::ilogb(c) : integer(-126, 127);
        const int of_x = std::isfinite(x) && x != 0.0F ? std::ilogb(x) : 0;
        switch (integer(0, 8)) {
            case 0: return any();
            case 1: return short_number();
            case 2: return special();
            case 3: {    // w x is half the distance of floats at c, or 2^-46 of that less
                const float i = (1.0F - x) * 0x1p23F;
                const float w = std::fabs(i) < 0x1p12F ? 1.0F + i * 0x1p-23F : 1.0F;
                return sign() * std::ldexp(w, of_c - 24 + integer(-1, 1) * integer(0, 1));
            }
            case 4: {    // w x is about the middle of two floats, and c next to nothing
                const float w = std::ldexp(static_cast<float>(2 * bits(22) + 1), integer(-80, 80));
                return sign() * w;
            }
            case 5: return std::nextafter(-c / x, any());    // w x and c cancel
            case 6: return of_exponent(of_c - of_x + integer(-28, 28));
            case 7: return of_exponent(-126 - of_x + integer(-26, 1));    // small results
            default:
                return sign() * std::ldexp(1.0F + static_cast<float>(bits(2)) * 0x1p-23F, 128 - of_x - integer(-1, 26));
        }
    }

    float initial() {
        switch (integer(0, 6)) {
            case 0: return any();
            case 1: return short_number();
            case 2: return special();
            case 3: return sign() * std::ldexp(1.0F + static_cast<float>(bits(2)) * 0x1p-23F, integer(-126, -100));
            case 4: return sign() * std::ldexp(2.0F - static_cast<float>(1 + bits(2)) * 0x1p-23F, integer(126, 127));
            default: return of_exponent(integer(-126, 127));
        }
    }

private:
    float special() {
        constexpr float kInfinity = std::numeric_limits<float>::infinity();
        const float values[] = {0.0F,
                                1.0F,
                                kInfinity,
                                std::numeric_limits<float>::quiet_NaN(),
                                std::numeric_limits<float>::min(),
                                std::numeric_limits<float>::max(),
                                0x1p-149F,
                                0x1.fffffcp-127F,
                                0x1p-63F};
        return sign() * values[integer(0, 8)];
    }

    std::mt19937_64 generator_{22};
};

void draw(Draw& from, Round& round) {
    for (float& c : round.c[0]) c = from.initial();
    for (int k = 0; k < kDepth; ++k) {
        round.x[k] = from.input();
        for (int lane = 0; lane < kLanesOfRound; ++lane) {
            const float c = round.c[k][lane];
            round.w[k][lane] = from.weight(round.x[k], c);
            round.c[k + 1][lane] = expected(round.w[k][lane], round.x[k], c);
        }
    }
}

void check(const char* isa, const Round& round, const float* expected_y, const float* y, int k) {
    for (int lane = 0; lane < kLanesOfRound; ++lane) {
        if (std::isnan(expected_y[lane]) && std::isnan(y[lane])) continue;
        if (std::memcmp(&expected_y[lane], &y[lane], sizeof y[lane]) == 0) continue;
        std::fprintf(stderr, "%s, k %d: %a * %a + %a is %a, not %a\n", isa, k, static_cast<double>(round.w[k][lane]),
                     static_cast<double>(round.x[k]), static_cast<double>(round.c[k][lane]),
                     static_cast<double>(expected_y[lane]), static_cast<double>(y[lane]));
        std::exit(1);
    }
}

using MultiplyAdds = void(const float* w, const float* x, const float* c, float* y);

void check_tier(const char* isa, std::uint32_t required, const Round& round, MultiplyAdds* single, MultiplyAdds* loop) {
    if ((cpu_features() & required) != required) return;
    float y[kDepth + 1][kLanesOfRound];
    {
        const ScopedFloatMode mode;
        for (int k = 0; k < kDepth; ++k) single(round.w[k], &round.x[k], round.c[k], y[k]);
        loop(round.w[0], round.x, round.c[0], y[kDepth]);
    }
    for (int k = 0; k < kDepth; ++k) check(isa, round, round.c[k + 1], y[k], k);
    check(isa, round, round.c[kDepth], y[kDepth], kDepth - 1);
}

float polynomial(float f) {
    constexpr float kCoefficients[] = {0x1.429618p-13F, 0x1.5ef134p-10F, 0x1.3b2c3ep-7F,
                                       0x1.c6afa4p-5F,  0x1.ebfbdep-3F,  0x1.62e430p-1F};
    float q = kCoefficients[0];
    for (int i = 1; i < 6; ++i) q = std::fma(q, f, kCoefficients[i]);
    return q;
}

void check_polynomials(const char* isa, std::uint32_t required, const float* f, const float* expected_y,
                       void (*polynomials)(const float* f, float* y)) {
    if ((cpu_features() & required) != required) return;
    float y[kLanesOfRound];
    {
        const ScopedFloatMode mode;
        polynomials(f, y);
    }
    for (int lane = 0; lane < kLanesOfRound; ++lane) {
        if (y[lane] == expected_y[lane]) continue;
        std::fprintf(stderr, "%s: the polynomial of %a is %a, not %a\n", isa, static_cast<double>(f[lane]),
                     static_cast<double>(expected_y[lane]), static_cast<double>(y[lane]));
        std::exit(1);
    }
}

// Of floats up to 0.51, each with both signs.
void check_polynomials_of(std::uint32_t first_bits) {
    float f[kLanesOfRound], expected_y[kLanesOfRound];
    for (int lane = 0; lane < kLanesOfRound; ++lane) {
        const std::uint32_t bits = first_bits + static_cast<std::uint32_t>(lane / 2);
        std::memcpy(&f[lane], &bits, sizeof bits);
        if (lane % 2 != 0) f[lane] = -f[lane];
        expected_y[lane] = polynomial(f[lane]);
    }
#define FUSEDCELL_TIER(isa, required_features) \
    check_polynomials(#isa, required_features, f, expected_y, &isa::exp2_polynomials);
#include "kernels/tiers.inc"
}

}    // namespace
}    // namespace fusedcell

int main(int argc, char** argv) {
    using namespace fusedcell;
    const long rounds = argc > 1 ? std::atol(argv[1]) : 5000;
    Draw from;
    Round round;
    for (long i = 0; i < rounds; ++i) {
        draw(from, round);
#define FUSEDCELL_TIER(isa, required_features) \
    check_tier(#isa, required_features, round, &isa::multiply_adds, &isa::multiply_adds_of_loop);
#include "kernels/tiers.inc"
    }
    constexpr std::uint32_t kLast = 0x3f028f5c;    // 0.51
    const std::uint32_t step = argc > 1 ? 8 : 8 * 509;
    for (std::uint32_t bits = 0; bits < kLast; bits += step) check_polynomials_of(bits);
}
