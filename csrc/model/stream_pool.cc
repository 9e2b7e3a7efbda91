#include "model/stream_pool.h"

#include <algorithm>
#include <utility>

namespace fusedcell {

StreamPool::StreamPool(std::shared_ptr<const Node> node, std::ptrdiff_t capacity, int num_threads)
    : node_(std::move(node)), num_threads_(num_threads), states_(node_->shape(), capacity), slots_(capacity) {
    rows_.reserve(count_of<RowState>(capacity));
    node_->reserve(1, std::min(capacity, Node::kMostRows), workspace_, num_threads_);
}

std::ptrdiff_t StreamPool::join() {
    const std::ptrdiff_t slot = slots_.join();
    states_.reset_row(slot);
    return slot;
}

void StreamPool::step(const std::vector<std::ptrdiff_t>& slots, const float* x, float* y) {
    rows_.clear();
    for (const std::ptrdiff_t slot : slots) rows_.push_back(states_.row(slot));
    node_->step_rows(x, y, rows_.data(), static_cast<std::ptrdiff_t>(rows_.size()), workspace_, num_threads_);
}

std::size_t StreamPool::nbytes() const {
    return sizeof *this + states_.nbytes() + workspace_.nbytes() + slots_.nbytes() +
           rows_.capacity() * sizeof(RowState);
}

}    // namespace fusedcell
