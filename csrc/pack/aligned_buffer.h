// Owned memory for packed weights, aligned to a cache line.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

namespace fusedcell {

class AlignedBuffer {
public:
    static constexpr std::size_t kAlignment = 64;

    AlignedBuffer() = default;
    /// `size` bytes, all zero. Throws std::bad_alloc.
    explicit AlignedBuffer(std::size_t size) : size_(size) {
        if (size == 0) return;
        data_ = static_cast<unsigned char*>(::operator new(size, std::align_val_t{kAlignment}));
        std::memset(data_, 0, size);
    }
    AlignedBuffer(AlignedBuffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    AlignedBuffer(const AlignedBuffer&) = delete;
    AlignedBuffer& operator=(const AlignedBuffer&) = delete;
    ~AlignedBuffer() { ::operator delete(data_, std::align_val_t{kAlignment}); }

    unsigned char* data() { return data_; }
    const unsigned char* data() const { return data_; }
    std::size_t size() const { return size_; }

private:
    unsigned char* data_ = nullptr;
    std::size_t size_ = 0;
};

}    // namespace fusedcell
