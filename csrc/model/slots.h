// Which places of a pool are taken.
#pragma once

#include <cstddef>
#include <vector>

namespace fusedcell {

class Slots {
public:
    /// All free.
    explicit Slots(std::ptrdiff_t capacity) : joined_(static_cast<std::size_t>(capacity)) {
        for (std::ptrdiff_t slot = capacity - 1; slot >= 0; --slot) free_.push_back(slot);
    }

    std::ptrdiff_t capacity() const { return static_cast<std::ptrdiff_t>(joined_.size()); }
    std::ptrdiff_t joined() const { return static_cast<std::ptrdiff_t>(joined_.size() - free_.size()); }
    bool is_full() const { return free_.empty(); }
    bool is_joined(std::ptrdiff_t slot) const { return joined_[static_cast<std::size_t>(slot)]; }

    /// A free slot, of which there must be one.
    std::ptrdiff_t join() {
        const std::ptrdiff_t slot = free_.back();
        free_.pop_back();
        joined_[static_cast<std::size_t>(slot)] = true;
        return slot;
    }
    /// Frees a slot that is joined.
    void leave(std::ptrdiff_t slot) {
        joined_[static_cast<std::size_t>(slot)] = false;
        free_.push_back(slot);
    }

    std::size_t nbytes() const { return joined_.capacity() / 8 + free_.capacity() * sizeof(std::ptrdiff_t); }

private:
    std::vector<bool> joined_;
    std::vector<std::ptrdiff_t> free_;    // the next to join last
};

}    // namespace fusedcell
