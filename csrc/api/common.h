// What the public classes share.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "fusedcell/fusedcell.h"

namespace fusedcell {

std::size_t size_of(std::ptrdiff_t value);

/// A count of the caller's, small enough that no size computed from it can overflow, and far beyond any memory. Throws
/// std::invalid_argument.
std::ptrdiff_t checked_count(std::size_t count, const char* name);

/// Throws LoadError that names the file.
std::vector<unsigned char> read_file(const std::string& path);

/// What `load(data, size)` returns of a file; its errors name the file.
template <class Load>
auto load_file(const std::string& path, const Load& load) {
    const std::vector<unsigned char> bytes = read_file(path);
    try {
        return load(bytes.data(), bytes.size());
    } catch (const UnsupportedError& error) {
        throw UnsupportedError(path + ": " + error.what());
    } catch (const LoadError& error) {
        throw LoadError(path + ": " + error.what());
    }
}

}    // namespace fusedcell
