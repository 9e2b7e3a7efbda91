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
    /// `size` zeros. Throws std::bad_alloc.
    explicit AlignedBuffer(std::size_t size) : size_(size) {
        if (size == 0) return;
        if (size > static_cast<std::size_t>(-1) / sizeof(float) / 2) throw std::bad_alloc();
        data_ = static_cast<float*>(::operator new(size * sizeof(float), std::align_val_t{kAlignment}));
        std::memset(data_, 0, size * sizeof(float));
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

    float* data() { return data_; }
    const float* data() const { return data_; }
    std::size_t size() const { return size_; }

private:
    float* data_ = nullptr;
    std::size_t size_ = 0;
};

}    // namespace fusedcell
