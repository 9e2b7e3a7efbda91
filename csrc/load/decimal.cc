#include "load/decimal.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace fusedcell {
namespace {

constexpr std::uint64_t kInfinity = std::uint64_t{0x7ff} << 52;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// A whole number of any size.
class Natural {
public:
    explicit Natural(std::uint32_t value) { times_plus(0, value); }

    bool is_zero() const { return words_.empty(); }

    int bits() const {
        if (is_zero()) return 0;
        int top = 0;
        while (top < 32 && words_.back() >> top != 0) ++top;
        return static_cast<int>(words_.size() - 1) * 32 + top;
    }

    void times_plus(std::uint32_t factor, std::uint32_t addend) {
        std::uint64_t carry = addend;
        for (std::uint32_t& word : words_) {
            carry += std::uint64_t{word} * factor;
            word = static_cast<std::uint32_t>(carry);
            carry >>= 32;
        }
        if (carry != 0) words_.push_back(static_cast<std::uint32_t>(carry));
    }

    void times_power(std::uint32_t base, int exponent) {
        for (; exponent > 0; --exponent) times_plus(base, 0);
    }

    /// Negative, zero or positive, as this is less than, equal to or more than `other`.
    int compare(const Natural& other) const {
        if (words_.size() != other.words_.size()) return words_.size() < other.words_.size() ? -1 : 1;
        for (std::size_t i = words_.size(); i-- > 0;) {
            if (words_[i] != other.words_[i]) return words_[i] < other.words_[i] ? -1 : 1;
        }
        return 0;
    }

    /// Takes away what is not more.
    void minus(const Natural& other) {
        std::uint64_t borrow = 0;
        for (std::size_t i = 0; i < words_.size(); ++i) {
            const std::uint64_t taken = (i < other.words_.size() ? other.words_[i] : 0) + borrow;
            borrow = words_[i] < taken ? 1 : 0;
            words_[i] = static_cast<std::uint32_t>(words_[i] - taken);
        }
        while (!words_.empty() && words_.back() == 0) words_.pop_back();
    }

private:
    std::vector<std::uint32_t> words_;    // the lowest first, the last one not zero
};

// digits * 10^exponent
struct Decimal {
    Natural digits{0};
    int exponent = 0;
};

// A number without a sign. Digits after the first kMostDigits count only as to whether one of them is not 0.
Decimal read(std::string_view text) {
    // As many as a number halfway between two doubles can have, and more.
    constexpr int kMostDigits = 800;
    constexpr std::int64_t kFar = 1 << 20;
    Decimal decimal;
    std::int64_t exponent = 0;
    std::size_t at = 0;
    bool has_more = false;
    int count = 0;
    for (bool is_fraction = false; at < text.size() && (is_digit(text[at]) || text[at] == '.'); ++at) {
        if (text[at] == '.') {
            is_fraction = true;
            continue;
        }
        if (is_fraction) --exponent;
        const auto digit = static_cast<std::uint32_t>(text[at] - '0');
        if (count < kMostDigits) {
            decimal.digits.times_plus(10, digit);
            if (!decimal.digits.is_zero()) ++count;
        } else {
            has_more = has_more || digit != 0;
            ++exponent;
        }
    }
    if (has_more) {
        decimal.digits.times_plus(10, 1);
        --exponent;
    }
    if (at < text.size()) {    // the e
        ++at;
        const bool is_negative = text[at] == '-';
        if (!is_digit(text[at])) ++at;
        std::int64_t written = 0;
        for (; at < text.size(); ++at) written = std::min(written * 10 + (text[at] - '0'), std::int64_t{1} << 50);
        exponent += is_negative ? -written : written;
    }
    decimal.exponent = static_cast<int>(std::clamp(exponent, -kFar, kFar));
    return decimal;
}

// The double's bits, of which the lower 52 are those of the mantissa, without its first one where the exponent above
// them is not 0.
std::uint64_t nearest_bits(const Decimal& decimal) {
    constexpr int kMantissaBits = 53;
    constexpr int kLeastExponent = -1074;    // of the last bit of the smallest doubles
    constexpr int kMostExponent = 1023;      // of the first bit of the largest
    Natural numerator = decimal.digits;
    if (numerator.is_zero()) return 0;
    // Far from all doubles, so that nobody waits for powers of ten: 2^3 < 10.
    if (decimal.exponent > 400) return kInfinity;
    if (numerator.bits() + 3 * decimal.exponent < kLeastExponent - 1) return 0;
    Natural denominator(1);
    numerator.times_power(10, decimal.exponent);
    denominator.times_power(10, -decimal.exponent);

    // With powers of two their quotient comes to lie in [1, 2): `top` is the exponent of the first bit.
    int top = numerator.bits() - denominator.bits();
    numerator.times_power(2, -top);
    denominator.times_power(2, top);
    if (numerator.compare(denominator) < 0) {
        numerator.times_plus(2, 0);
        --top;
    }
    if (top > kMostExponent) return kInfinity;
    if (top < kLeastExponent - 1) return 0;
    const int last = std::max(top - kMantissaBits + 1, kLeastExponent);
    std::uint64_t mantissa = 0;
    for (int bit = top; bit >= last; --bit) {
        const bool is_set = numerator.compare(denominator) >= 0;
        if (is_set) numerator.minus(denominator);
        numerator.times_plus(2, 0);
        mantissa = mantissa * 2 + (is_set ? 1 : 0);
    }
    const int rest = numerator.compare(denominator);    // of what is left with half of the last bit
    if (rest > 0 || (rest == 0 && mantissa % 2 != 0)) ++mantissa;
    // Added, so that a mantissa that has grown by a bit is one more in the exponent.
    return (static_cast<std::uint64_t>(last - kLeastExponent) << (kMantissaBits - 1)) + mantissa;
}

}    // namespace

std::optional<double> nearest_double(std::string_view decimal) {
    const bool is_negative = decimal.front() == '-';
    if (is_negative) decimal.remove_prefix(1);
    std::uint64_t bits = nearest_bits(read(decimal));
    if (bits >= kInfinity) return std::nullopt;
    if (is_negative) bits |= std::uint64_t{1} << 63;
    double value;
    static_assert(sizeof value == sizeof bits);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

}    // namespace fusedcell
