// Shapes of arrays, and how errors write them.
#pragma once

#include <cstddef>
#include <locale>
#include <sstream>
#include <string>
#include <vector>

namespace fusedcell {

using Shape = std::vector<std::ptrdiff_t>;

inline std::string to_text(const Shape& shape) {
    std::string text = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (i > 0) text += ", ";
        text += std::to_string(shape[i]);
    }
    return text + (shape.size() == 1 ? ",)" : ")");
}

/// A number as short as six digits tell it, whatever the locale.
inline std::string number_text(double number) {
    std::ostringstream text;
    text.imbue(std::locale::classic());
    text << number;
    return text.str();
}

/// "name: expected shape (3, 4), got (3, 5)".
inline std::string shape_error(const std::string& name, const std::string& expected, const std::string& got) {
    return name + ": expected shape " + expected + ", got " + got;
}

}    // namespace fusedcell
