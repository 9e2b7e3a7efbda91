// What an error says, from its parts. A sum of strings would be many times the code: it makes one for each part, and
// what lets go of them all if the next one throws.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

namespace fusedcell {

using Message = std::initializer_list<std::string_view>;

inline std::string joined(Message parts) {
    std::string text;
    for (const std::string_view part : parts) text += part;
    return text;
}

}    // namespace fusedcell
