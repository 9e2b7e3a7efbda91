// Random draws that depend on where they are made and on nothing that was drawn before: the counter-based generator
// Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"). It is made of
// integers alone, so that draws have the same bits on every tier and in any order, and the way back repeats them
// instead of keeping them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace fusedcell {

/// Four words of `Blocks` counters each, in place: words[w][block] is word w of a counter, and then of its result, in
/// the lower half of what is kept in 64 bits, as vectors multiply it.
template <int Blocks>
void philox(std::uint64_t (&words)[4][Blocks], std::uint32_t key_0, std::uint32_t key_1) {
    constexpr int kRounds = 10;
    constexpr std::uint64_t kLower = 0xFFFFFFFF;
    for (int round = 0; round < kRounds; ++round) {
        for (int b = 0; b < Blocks; ++b) {
            const std::uint64_t product_0 = (words[0][b] & kLower) * 0xD2511F53U;
            const std::uint64_t product_1 = (words[2][b] & kLower) * 0xCD9E8D57U;
            words[0][b] = (product_1 >> 32) ^ words[1][b] ^ key_0;
            words[2][b] = (product_0 >> 32) ^ words[3][b] ^ key_1;
            words[1][b] = product_1;
            words[3][b] = product_0;
        }
        key_0 += 0x9E3779B9;
        key_1 += 0xBB67AE85;
    }
}

// Which of the features of a sequence's steps are taken, each by a draw of its own. The draw of feature j at time t of
// batch row b is word j mod 4 of the counter (j / 4, b, t, stream) under the key `seed`, its lower half first, and
// takes the feature if it is `threshold` or more.
struct Draws {
    std::uint64_t seed = 0;
    std::uint32_t stream = 0;
    double rate = 0;    // of what is not taken, in [0, 1]

    explicit operator bool() const { return rate > 0; }
    /// round(2^32 rate), and of a rate so near to 1 that this is no word, the last word. Of 1 nothing is taken.
    std::uint32_t threshold() const {
        const double scaled = rate * 4294967296.0 + 0.5;
        return scaled < 4294967295.0 ? static_cast<std::uint32_t>(scaled) : 0xFFFFFFFFU;
    }
    /// 1 / (1 - rate), by which dropout multiplies what it takes.
    float scale() const { return rate < 1 ? static_cast<float>(1 / (1 - rate)) : 0.0F; }

    /// `taken` for what is taken, and else 0.
    void fill(std::ptrdiff_t time, std::ptrdiff_t row, float taken, float* values, std::ptrdiff_t size) const {
        constexpr int kBlocks = 16;
        constexpr std::ptrdiff_t kDrawn = std::ptrdiff_t{4} * kBlocks;
        const std::uint32_t least = threshold();
        const float value = rate < 1 ? taken : 0.0F;
        for (std::ptrdiff_t first = 0; first < size; first += kDrawn) {
            std::uint64_t words[4][kBlocks];
            for (int b = 0; b < kBlocks; ++b) {
                words[0][b] = static_cast<std::uint64_t>(first / 4 + b);
                words[1][b] = static_cast<std::uint64_t>(row);
                words[2][b] = static_cast<std::uint64_t>(time);
                words[3][b] = stream;
            }
            philox(words, static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
            float drawn[kDrawn];
            for (int b = 0; b < kBlocks; ++b) {
                for (int w = 0; w < 4; ++w) {
                    drawn[4 * b + w] = static_cast<std::uint32_t>(words[w][b]) >= least ? value : 0.0F;
                }
            }
            std::copy_n(drawn, std::min(kDrawn, size - first), values + first);
        }
    }
};

/// y = factors x where a factor is not zero, and else 0, whatever x is. y may be x.
inline void drop(const float* x, const float* factors, float* y, std::ptrdiff_t size) {
    for (std::ptrdiff_t i = 0; i < size; ++i) y[i] = factors[i] == 0.0F ? 0.0F : x[i] * factors[i];
}

}    // namespace fusedcell
