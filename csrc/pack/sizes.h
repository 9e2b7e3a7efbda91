// How many values and bytes memory is asked for. Factors come from callers, arrays and files, and where addresses have
// 32 bits a product overflows long before any of them looks wrong, so each is computed here, and what could not be
// addressed is what memory does not hold: std::bad_alloc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <type_traits>
#include <vector>

namespace fusedcell {

/// What a caller or a file gave, of any width and none negative, as a size.
template <class Integer>
std::ptrdiff_t to_size(Integer value) {
    static_assert(std::is_integral_v<Integer> && sizeof(Integer) <= sizeof(std::uint64_t));
    if (static_cast<std::uint64_t>(value) > std::uint64_t{PTRDIFF_MAX}) throw std::bad_alloc();
    return static_cast<std::ptrdiff_t>(value);
}

/// None is negative. Throws std::bad_alloc where the product is no size.
inline std::ptrdiff_t product_of(std::ptrdiff_t a, std::ptrdiff_t b) {
#if defined(__GNUC__) || defined(__clang__)
    std::ptrdiff_t product = 0;
    if (__builtin_mul_overflow(a, b, &product)) throw std::bad_alloc();
    return product;
#else
    if (b != 0 && a > PTRDIFF_MAX / b) throw std::bad_alloc();
    return a * b;
#endif
}
template <class... Sizes>
std::ptrdiff_t product_of(std::ptrdiff_t a, std::ptrdiff_t b, Sizes... more) {
    return product_of(product_of(a, b), more...);
}

/// Likewise.
inline std::ptrdiff_t sum_of(std::ptrdiff_t a, std::ptrdiff_t b) {
    if (a > PTRDIFF_MAX - b) throw std::bad_alloc();
    return a + b;
}

/// How many T an array of these dimensions has, if its bytes are a size too, so that std::vector takes the number.
template <class T, class... Sizes>
std::size_t count_of(Sizes... sizes) {
    constexpr std::ptrdiff_t kBytes = sizeof(T);
    return static_cast<std::size_t>(product_of(kBytes, sizes...) / kBytes);
}

/// Makes room for so many, and never less than there was.
template <class T, class... Sizes>
void grow(std::vector<T>& values, Sizes... sizes) {
    const std::size_t count = count_of<T>(sizes...);
    if (values.size() < count) values.resize(count);
}

/// Bytes of the memory that vectors hold.
template <class... T>
std::size_t bytes_of(const std::vector<T>&... vectors) {
    return ((vectors.capacity() * sizeof(T)) + ...);
}

}    // namespace fusedcell
