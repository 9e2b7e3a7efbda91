// Reading files that come as bytes, which nobody can change while they are read without the GIL.
#pragma once

#include <cstddef>
#include <string_view>

#include "bindings/arguments.h"
#include "bindings/gil.h"
#include "fusedcell/fusedcell.h"

namespace fusedcell::bindings {

/// What `read` returns of the bytes, without the GIL meanwhile. What it throws of a file is a ValueError.
template <class Read>
auto read_bytes(const py::bytes& bytes, const Read& read) {
    const std::string_view view(bytes);
    try {
        const GilRelease release;
        return read(reinterpret_cast<const unsigned char*>(view.data()), view.size());
    } catch (const UnsupportedError& error) {
        throw_unsupported(error.what());
    } catch (const LoadError& error) {
        throw py::value_error(error.what());
    }
}

}    // namespace fusedcell::bindings
