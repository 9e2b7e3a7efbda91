// How runs of training share out their rows among threads, and the sizes that the order of operations rests on.
#pragma once

#include <algorithm>
#include <cstddef>

#include "cpu/available.h"
#include "kernels/simd/float_mode.h"
#include "model/training.h"

namespace fusedcell {

// Rows of a product computed at a time, and rows at least of a segment (kernels/generic/training.h).
constexpr std::ptrdiff_t kProjectionRows = 128;
constexpr std::ptrdiff_t kSegmentRows = 256;
constexpr std::ptrdiff_t kLineFloats = 16;

// Every product by a matrix.
constexpr KernelName<LinearRow> kLinear = &WeightKernels::linear;

inline std::ptrdiff_t padded_to(std::ptrdiff_t multiple, std::ptrdiff_t size) {
    return sum_of(size, multiple - 1) / multiple * multiple;
}

inline void grow(AlignedBuffer& buffer, std::ptrdiff_t bytes) {
    if (buffer.size() < static_cast<std::size_t>(bytes)) buffer = AlignedBuffer(static_cast<std::size_t>(bytes));
}

// A thread's rows.
struct Rows {
    std::ptrdiff_t first;
    std::ptrdiff_t last;

    Rows(std::ptrdiff_t count, const TeamPart& part)
        : first(share_of(count, part.index, part.count)), last(share_of(count, part.index + 1, part.count)) {}
    std::ptrdiff_t size() const { return last - first; }
};

/// A thread's rows of a sum of outer products, in whole lines of d, so that every sum is one thread's.
inline Rows lines_of(std::ptrdiff_t rows, const TeamPart& part) {
    Rows lines((rows + kLineFloats - 1) / kLineFloats, part);
    lines.first = std::min(lines.first * kLineFloats, rows);
    lines.last = std::min(lines.last * kLineFloats, rows);
    return lines;
}

/// Runs work(part, worker's memory) on up to `num_threads` threads. It begins again where a fork has lost them.
/// `reserve(worker, rows)` makes room for so many of `rows`, as threads could not say that there is none.
template <class Reserve, class Work>
void share_rows(std::ptrdiff_t rows, int num_threads, TrainingSpace& space, Checkpoint* checkpoint,
                const Reserve& reserve, const Work& work) {
    const int count = std::min(num_threads, available_cpus());
    if (space.workers.size() < static_cast<std::size_t>(count)) {
        space.workers.resize(static_cast<std::size_t>(count));
    }
    for (int i = 0; i < count; ++i) {
        const bool may_have_all = i == 0;
        reserve(space.workers[static_cast<std::size_t>(i)], may_have_all ? rows : (rows + count - 1) / count);
    }
    if (count > 1) {
        if (checkpoint != nullptr) checkpoint->share();
        Barrier barrier;
        auto job = [&](int index) {
            const ScopedFloatMode mode;
            work(TeamPart{index, count, &barrier, checkpoint}, space.workers[static_cast<std::size_t>(index)]);
        };
        if (Team::run(count, job)) {
            if (checkpoint == nullptr || !checkpoint->lost_threads()) return;
            checkpoint->begin_alone();
        }
    }
    const ScopedFloatMode mode;
    work(TeamPart{0, 1, nullptr, checkpoint}, space.workers.front());
}

}    // namespace fusedcell
