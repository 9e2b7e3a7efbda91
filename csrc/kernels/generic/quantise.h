// Inputs to int8: x = scale * q, q in [-127, 127], rounded to nearest, ties to even.
//
//     general input     scale = m / 127 with m = max |x|;   q = x * (127 / m)
//     bounded input     the same if m > 1, else scale = 1 / 127, q = x * 127
//
// The rule looks at nothing but the vector itself, so it is the same however a sequence is cut. Below 2^-100 a vector
// counts as zero: scale and q are 0. If it holds a NaN or an infinity, scale is NaN and q is 0, which makes every
// output of this row NaN and touches no other.
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

void Quantise(const QuantiseRow* rows, ptrdiff_t num_rows, ptrdiff_t size, bool bounded) {
    constexpr int32_t kInfinity = 0x7f800000;
    constexpr int32_t kOne = 0x3f800000;
    constexpr int32_t kSmallest = 0x0d800000;    // 2^-100
    for (ptrdiff_t r = 0; r < num_rows; ++r) {
        const float* x = rows[r].x;
        I32 magnitudes = ZeroI32();
        ptrdiff_t k = 0;
        for (; k + kLanes <= size; k += kLanes) magnitudes = MaxMagnitude(magnitudes, Load(x + k));
        if (k < size) magnitudes = MaxMagnitude(magnitudes, LoadFirst(x + k, size - k));
        const int32_t bits = LargestLane(magnitudes);

        float scale = 0.0F;
        float inverse = 0.0F;
        if (bits >= kInfinity) {
            memcpy(&scale, &bits, sizeof scale);
            scale = scale - scale;    // infinity and NaN both become NaN
        } else if (bounded && bits <= kOne) {
            scale = 1.0F / 127.0F;
            inverse = 127.0F;
        } else if (bits >= kSmallest) {
            float largest;
            memcpy(&largest, &bits, sizeof largest);
            scale = largest / 127.0F;
            inverse = 127.0F / largest;
        }
        rows[r].q->scale = scale;
        int8_t* q = rows[r].q->values;
        if (inverse == 0.0F) {
            memset(q, 0, static_cast<size_t>((size + kLanes + 3) / 4 * 4));
            continue;
        }
        const F32 factor = Broadcast(inverse);
        for (k = 0; k + kLanes <= size; k += kLanes) StoreInt8(q + k, Mul(Load(x + k), factor));
        // Past the end come zeros, up to a whole group of four and a whole vector.
        if (k < size) {
            StoreInt8(q + k, Mul(LoadFirst(x + k, size - k), factor));
            k += kLanes;
        }
        for (; k % 4 != 0; ++k) q[k] = 0;
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
