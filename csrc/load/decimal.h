// Decimal numbers, for readers of text.
#pragma once

#include <optional>
#include <string_view>

namespace fusedcell {

/// The double nearest to a number that is written as JSON writes it, and of two the even one; 0 for what is too small,
/// nothing for what is too large. In integers, so that it is the same whatever the locale, the floating-point mode and
/// the C++ library: std::from_chars of doubles is missing from many.
std::optional<double> nearest_double(std::string_view decimal);

}    // namespace fusedcell
