// Owned memory for packed weights: aligned to a cache line, and in huge pages where the system gives them and the
// memory fills at least one, because a walk through many small pages waits for their addresses.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fusedcell {

class AlignedBuffer {
public:
    AlignedBuffer() = default;
    /// `size` bytes, all zero. Throws std::bad_alloc.
    explicit AlignedBuffer(std::size_t size) : size_(size) {
        if (size == 0) return;
        data_ = static_cast<unsigned char*>(::operator new(size, alignment()));
#if defined(__linux__)
        // Only the whole pages among them: what follows may be someone else's. A refusal changes nothing but speed.
        if (is_large()) madvise(data_, size / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
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
    ~AlignedBuffer() { ::operator delete(data_, alignment()); }

    unsigned char* data() { return data_; }
    const unsigned char* data() const { return data_; }
    std::size_t size() const { return size_; }

private:
    static constexpr std::size_t kCacheLine = 64;
    static constexpr std::size_t kHugePage = std::size_t{1} << 21;

    bool is_large() const { return size_ >= kHugePage; }
    std::align_val_t alignment() const { return std::align_val_t{is_large() ? kHugePage : kCacheLine}; }

    unsigned char* data_ = nullptr;
    std::size_t size_ = 0;
};

}    // namespace fusedcell
