// Which rows of its input a row of a node's output is made of, and when there are enough of them.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fusedcell {

// Window w is the rows w * stride - left + i * dilation, i = 0 .. taps - 1, of which those before the first row and
// after the last are zeros. It gives `repeat` rows of output.
struct Window {
    std::int64_t taps = 1;
    std::int64_t stride = 1;
    std::int64_t dilation = 1;
    std::int64_t left = 0;     // rows of zeros before the first; negative: rows that are left out
    std::int64_t right = 0;    // likewise after the last
    std::int64_t repeat = 1;

    /// Rows from the first tap to the last.
    std::int64_t span() const { return (taps - 1) * dilation + 1; }
    /// How many windows there are of `rows` rows: all of them if the rows have ended, else those that are known to be.
    std::int64_t windows(std::int64_t rows, bool ended) const {
        const std::int64_t known = rows + left + (ended ? right : std::min<std::int64_t>(right, 0)) - span();
        if (known < 0) return 0;
        return (stride == 1 ? known : known / stride) + 1;
    }
    /// The first row of a window, before the first of the input where it is negative.
    std::int64_t first_row(std::int64_t window) const { return window * stride - left; }
};

}    // namespace fusedcell
