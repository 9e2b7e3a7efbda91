// The loop over k where a multiply-add of floats is one of doubles, rounded: sums stay doubles from k to k, and what
// may have been rounded wrongly is found out some k later, and done again.
//
// Beside what every dot has (generic/dot.h), a dot for this loop has
//
//     DoublesAt           one vector's weights, widened
#pragma once

#ifndef FUSEDCELL_ISA    // opened by itself
#include "kernels/simd/dot_i8_sse41.h"
#endif

#include "kernels/generic/dot.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

/// As PlainSum, of one row, right in any case and slow.
template <class AnyDot>
FUSEDCELL_OPAQUE void SumAgain(F32* acc, int vectors, const typename AnyDot::Element* weights, ptrdiff_t stride,
                               const float* x, ptrdiff_t depth) {
    for (ptrdiff_t k = 0; k < depth; ++k, weights += stride) {
        for (int v = 0; v < vectors; ++v) {
            acc[v] = MulAddExactly(AnyDot::WeightsAt(weights + v * kLanes), Broadcast(x[k]), acc[v]);
        }
    }
}

/// As PlainSum, of one row.
template <class AnyDot, int kVectors>
FUSEDCELL_NOINLINE void SumByDoubles(F32* acc, const typename AnyDot::Element* weights, ptrdiff_t stride,
                                     const float* x, ptrdiff_t depth) {
    constexpr ptrdiff_t kMostSteps = 64;
    while (depth > 0) {
        const ptrdiff_t steps = depth < kMostSteps ? depth : kMostSteps;
        Doubles sums[kVectors];
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) sums[v] = Widen(acc[v]);
        bool wrong = false;
        const typename AnyDot::Element* p = weights;
        for (ptrdiff_t k = 0; k < steps; ++k, p += stride) {
            const Doubles in = BroadcastDoubles(x[k]);
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) wrong |= AddProduct(sums[v], AnyDot::DoublesAt(p + v * kLanes), in);
        }
        if (FUSEDCELL_RARE(wrong)) {
            SumAgain<AnyDot>(acc, kVectors, weights, stride, x, steps);
        } else {
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) acc[v] = Narrow(sums[v]);
        }
        weights = p;
        x += steps;
        depth -= steps;
    }
}

template <class AnyDot, int kSets, int kVectors>
FUSEDCELL_NOINLINE void IntegerSum(typename AnyDot::Accumulator (&acc)[kSets][kVectors], const int8_t* weights,
                                   ptrdiff_t stride, const int8_t* const (&x)[kSets * AnyDot::kRows], ptrdiff_t depth) {
    // In registers: of memory compilers do not know that weights and inputs are elsewhere.
    typename AnyDot::Accumulator sums[kSets][kVectors];
    const int8_t* inputs[kSets * AnyDot::kRows];
    memcpy(sums, acc, sizeof sums);
    memcpy(inputs, x, sizeof inputs);
    PlainSum<AnyDot>(sums, weights, stride, inputs, depth);
    memcpy(acc, sums, sizeof sums);
}

/// As PlainSum, out of line: one copy of a loop for all kernels that have as many vectors.
template <class AnyDot, int kSets, int kVectors, class X>
FUSEDCELL_INLINE void SumApart(typename AnyDot::Accumulator (&acc)[kSets][kVectors],
                               const typename AnyDot::Element* weights, ptrdiff_t stride,
                               const X* const (&x)[kSets * AnyDot::kRows], ptrdiff_t depth) {
    if constexpr (sizeof(X) == sizeof(float)) {
        for (int s = 0; s < kSets; ++s) SumByDoubles<AnyDot, kVectors>(acc[s], weights, stride, x[s], depth);
    } else {
        IntegerSum<AnyDot>(acc, weights, stride, x, depth);
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
