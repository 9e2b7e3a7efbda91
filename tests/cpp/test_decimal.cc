// Decimal numbers become the nearest double, whatever the floating-point mode: as the compiler reads them, and back to
// the double that they were printed from.
#include <cfenv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>
#include <string>

#include "check.h"
#include "kernels/simd/float_mode.h"
#include "load/decimal.h"

using fusedcell::nearest_double;

namespace {

std::uint64_t bits_of(double value) {
    std::uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

void check(const std::string& text, double expected) {
    for (const std::string& signed_text : {text, "-" + text}) {
        const std::optional<double> value = nearest_double(signed_text);
        const std::uint64_t sign = std::uint64_t{signed_text.front() == '-'} << 63;
        if (!value || bits_of(*value) != (bits_of(expected) | sign)) {
            std::fprintf(stderr, "%.100s, expected %a, got %a\n", signed_text.c_str(), expected, value.value_or(-1.0));
            CHECK(value && bits_of(*value) == (bits_of(expected) | sign));
        }
    }
}

#define AS_THE_COMPILER(number) check(#number, number)

void check_literals() {
    AS_THE_COMPILER(0.0);
    AS_THE_COMPILER(0e0);
    AS_THE_COMPILER(7.0);
    AS_THE_COMPILER(0.1);
    AS_THE_COMPILER(1E2);
    AS_THE_COMPILER(1.5e+2);
    AS_THE_COMPILER(1e22);
    AS_THE_COMPILER(1e23);
    AS_THE_COMPILER(8.5e-2);
    AS_THE_COMPILER(12345678901234567890123456789.0);
    AS_THE_COMPILER(0.000000000000000000000000000000000000000000000000000000000000001e-20);
    AS_THE_COMPILER(100000000000000000000000000000000000000000000000000000000000e-70);
    // 2^53 + 1 is halfway between two doubles, and so is 2^53 + 3; what comes after the point breaks the tie.
    AS_THE_COMPILER(9007199254740993.0);
    AS_THE_COMPILER(9007199254740995.0);
    AS_THE_COMPILER(9007199254740993.00000000000000000000000000000000000000000001);
    AS_THE_COMPILER(9007199254740992.99999999999999999999999999999999999999999999);
    AS_THE_COMPILER(18014398509481983.0);    // 2^54 - 1: the mantissa grows by a bit
    AS_THE_COMPILER(1.00000005960464477540);
    // The ends of the normal numbers and of all of them.
    AS_THE_COMPILER(1.7976931348623157e308);
    AS_THE_COMPILER(1.79769313486231580793e308);
    AS_THE_COMPILER(2.2250738585072014e-308);
    AS_THE_COMPILER(2.2250738585072011e-308);
    AS_THE_COMPILER(2.2250738585072012e-308);
    AS_THE_COMPILER(4.9406564584124654e-324);
    AS_THE_COMPILER(2.4703282292062328e-324);
    AS_THE_COMPILER(7.4109846876186982e-324);
}

void check_ends() {
    const std::string zeros(100000, '0');
    check("2.4703282292062327e-324", 0.0);
    check("1e-400", 0.0);
    check("1e-99999999999999999999999999", 0.0);
    check("0e99999999999999999999999999", 0.0);
    check("0." + zeros + "1e100001", 1.0);
    check("1" + zeros + "e-100000", 1.0);
    check("0." + std::string(100000, '9'), 1.0);
    check("9007199254740993." + zeros + "1", 9007199254740994.0);
    check("9007199254740993." + zeros, 9007199254740992.0);
    for (const std::string& text :
         {std::string("1.7976931348623159e308"), std::string("1e309"), std::string("1e401"),
          std::string("1e99999999999999999999999999"), "1" + zeros, "1" + zeros + "e-99000"}) {
        CHECK(!nearest_double(text));
        CHECK(!nearest_double("-" + text));
    }
}

// Seventeen digits are enough to tell a double from all others; more digits are nearer to it.
void check_printed() {
    std::mt19937_64 random(3);
    for (int i = 0; i < 2000; ++i) {
        std::uint64_t bits = random() >> 1;
        if (bits >> 52 == 0x7ff) continue;
        if (i % 4 == 0) bits >>= 11 + random() % 53;    // a small one
        double value;
        std::memcpy(&value, &bits, sizeof value);
        char text[400];
        for (const char* format : {"%.16e", "%.17e", "%.40e"}) {
            std::snprintf(text, sizeof text, format, value);
            check(text, value);
        }
    }
}

}    // namespace

int main() {
    check_literals();
    check_ends();
    check_printed();
    // As the kernels have it, and where a caller rounds upwards.
    {
        const fusedcell::ScopedFloatMode mode;
        check_literals();
        check_ends();
    }
    std::fesetround(FE_UPWARD);
    check_literals();
    check_ends();
    std::fesetround(FE_TONEAREST);
    return 0;
}
