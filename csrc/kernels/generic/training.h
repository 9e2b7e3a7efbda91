// Training: steps that leave what the way back needs, the way back through their gates, and sums over rows of outer
// products. Every product of a row by a matrix is `linear`'s, by W and R on the way there and by their transposes on
// the way back.
//
// Saved are, of each step and row, the values of the gates, [panel][gate][lane] with whole panels, and c of the LSTM. y
// is h. The input projection p lies where the gates' values then come to lie, and those of RNNs by itself.
//
//     LSTM    i f g o                     GRU    n r z a_n, a_n = b_hn + R_n h                    RNN    none
//
// Those of the GRU are four to its projection's three, so that its projection lies at the end of them: what is written
// of a panel is no further than what has been read.
//
// y and c have the bits of inference (lstm.h, gru.h, rnn.h). One reciprocal, of the state's denominator, serves the
// gates that are divided by its factors.
//
// Back. dh = dy + (a + carry) is the loss's derivative by h, with a what comes back through R from the step after, one
// chain from 0 over the gate rows k of R[k][j] d[k], and dc the one by c. d is that by what enters the gates,
// row-major, (gates, units), so that the chains over it do not depend on lanes. s(v) = v - v^2 and q(v) = 1 - v^2 are
// one multiply-add each.
//
//     LSTM    tc = tanh(c);  dc = fma(dh o, q(tc), dc)
//             d_o = (dh tc) s(o);  d_i = (dc g) s(i);  d_f = (dc c') s(f);  d_g = (dc i) q(g);  dc' = dc f
//     GRU     d_n = (dh (1 - z)) q(n);  d_r = (d_n a_n) s(r);  d_z = (dh (h' - n)) s(z);  d_an = d_n r;  carry = dh z
//     RNN     d = dh q(y), or of relu dh where y > 0 and else 0
//
// with c' and h' the states before the step. d of the GRU lies as n r z an, of which W has to do with the first three
// and R with the last three. These are the chain rule through the formulas of fusedcell.reference, carried on from step
// to step (Werbos 1990, "Backpropagation through time").
//
// What comes between the steps and the kernels is arithmetic without fused operations (model/training_steps.cc and
// training.cc), each line of it rounded as it stands. Recurrent dropout: R meets h m, with m of a row 0 or 1 / (1 -
// p), and a of the way back is then a m. Zoneout, u being 0 or 1 or in evaluation 1 - p: h = u h~ + (1 - u) h',
// where h~ is the cell's, and so is c; on the way back u dh is the cell's share, and (1 - u) dh joins a, or a z of
// the GRU, last. A projection: h = W_hr h~, one chain from 0, dh~ one over W_hr's rows, and dW_hr a sum like the
// others. Where a mask holds the state, dh = a + dy.
//
// dW = sum over rows of d x^T is taken in segments of steps from the last step down: in a segment one chain from 0 over
// its rows, later steps first and of a step the first row first, and the segments are added up in this order. So are
// dR, of d h'^T, and db, of d, by additions. One chain over all rows would lose digits.
#pragma once

#include "kernels/generic/activations.h"
#include "kernels/generic/dot.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

/// v - v^2
FUSEDCELL_INLINE F32 SlopeOfSigmoid(F32 v) { return MulAdd(Sub(Zero(), v), v, v); }
/// 1 - v^2
FUSEDCELL_INLINE F32 SlopeOfTanh(F32 v) { return MulAdd(Sub(Zero(), v), v, Broadcast(1.0F)); }

// One panel of a row: where its vectors are.
struct TrainingPanel {
    const TrainingRow& row;
    ptrdiff_t offset;    // its first unit
    ptrdiff_t units;
    ptrdiff_t all_units;    // of the row

    FUSEDCELL_INLINE F32 State(const float* state) const { return LoadUnits(state + offset, units); }
    FUSEDCELL_INLINE void SetState(float* state, F32 value) const { StoreUnits(state + offset, value, units); }
    FUSEDCELL_INLINE F32 Gate(int gate) const { return Load(row.gates + offset * kSavedGates + gate * kLanes); }
    FUSEDCELL_INLINE void SetGate(int gate, F32 value) const {
        Store(row.gates + offset * kSavedGates + gate * kLanes, value);
    }
    /// p and a of one of the cell's kGates.
    template <int kGates>
    FUSEDCELL_INLINE F32 Projection(int gate) const {
        return Load(row.projection + offset * kGates + gate * kLanes);
    }
    template <int kGates>
    FUSEDCELL_INLINE F32 Sum(int gate) const {
        return Load(row.sums + offset * kGates + gate * kLanes);
    }
    template <int kGates>
    FUSEDCELL_INLINE F32 PreActivation(int gate) const {
        return Add(Projection<kGates>(gate), Sum<kGates>(gate));
    }
    FUSEDCELL_INLINE void SetD(int gate, F32 value) const { SetState(row.d + gate * all_units, value); }
    /// The loss's derivative by h, but for what the GRU's carry adds.
    FUSEDCELL_INLINE F32 ByH() const { return Add(State(row.dy), State(row.dh)); }
};

struct LstmTraining {
    static FUSEDCELL_INLINE void Forward(const TrainingPanel& at) {
        const F32 input_alone = SigmoidDenominator(at.PreActivation<4>(0));
        const F32 forget = SigmoidDenominator(at.PreActivation<4>(1));
        const auto candidate = TanhParts(at.PreActivation<4>(2));
        const F32 output = SigmoidDenominator(at.PreActivation<4>(3));
        const F32 input = Mul(input_alone, candidate.denominator);
        const F32 numerator = MulAdd(at.State(at.row.c), input, Mul(candidate.numerator, forget));
        const F32 denominator = Mul(forget, input);
        const F32 c_next = Div(numerator, denominator);
        at.SetState(at.row.c_next, c_next);
        const auto cell = TanhParts(c_next);
        at.SetState(at.row.h_next, Div(cell.numerator, Mul(output, cell.denominator)));

        const F32 one = Broadcast(1.0F);
        const F32 reciprocal = Div(one, denominator);
        at.SetGate(0, Mul(Mul(forget, candidate.denominator), reciprocal));
        at.SetGate(1, Mul(input, reciprocal));
        at.SetGate(2, Mul(candidate.numerator, Mul(Mul(forget, input_alone), reciprocal)));
        at.SetGate(3, Div(one, output));
    }

    static FUSEDCELL_INLINE void Backward(const TrainingPanel& at) {
        const F32 i = at.Gate(0);
        const F32 f = at.Gate(1);
        const F32 g = at.Gate(2);
        const F32 o = at.Gate(3);
        const F32 dh = at.ByH();
        const F32 tanh_c = Tanh(at.State(at.row.c_next));
        const F32 dc = MulAdd(Mul(dh, o), SlopeOfTanh(tanh_c), at.State(at.row.dc));
        at.SetD(0, Mul(Mul(dc, g), SlopeOfSigmoid(i)));
        at.SetD(1, Mul(Mul(dc, at.State(at.row.c)), SlopeOfSigmoid(f)));
        at.SetD(2, Mul(Mul(dc, i), SlopeOfTanh(g)));
        at.SetD(3, Mul(Mul(dh, tanh_c), SlopeOfSigmoid(o)));
        at.SetState(at.row.dc, Mul(dc, f));
    }
};

struct GruTraining {
    static FUSEDCELL_INLINE void Forward(const TrainingPanel& at) {
        const F32 reset = SigmoidDenominator(at.PreActivation<3>(0));
        const F32 e = ExpNegative(at.PreActivation<3>(1));
        const F32 a_n = at.Sum<3>(2);
        const auto candidate = TanhParts(Add(at.Projection<3>(2), Div(a_n, reset)));
        const F32 one = Broadcast(1.0F);
        const F32 update = Add(one, e);
        const F32 denominator = Mul(update, candidate.denominator);
        const F32 numerator = MulAdd(at.State(at.row.h), candidate.denominator, Mul(e, candidate.numerator));
        at.SetState(at.row.h_next, Div(numerator, denominator));

        const F32 reciprocal = Div(one, denominator);
        at.SetGate(0, Mul(candidate.numerator, Mul(update, reciprocal)));
        at.SetGate(1, Div(one, reset));
        at.SetGate(2, Mul(candidate.denominator, reciprocal));
        at.SetGate(3, a_n);
    }

    static FUSEDCELL_INLINE void Backward(const TrainingPanel& at) {
        const F32 n = at.Gate(0);
        const F32 r = at.Gate(1);
        const F32 z = at.Gate(2);
        const F32 dh = Add(at.State(at.row.dy), Add(at.State(at.row.dh), at.State(at.row.dc)));
        const F32 d_n = Mul(Mul(dh, Sub(Broadcast(1.0F), z)), SlopeOfTanh(n));
        at.SetD(0, d_n);
        at.SetD(1, Mul(Mul(d_n, at.Gate(3)), SlopeOfSigmoid(r)));
        at.SetD(2, Mul(Mul(dh, Sub(at.State(at.row.h), n)), SlopeOfSigmoid(z)));
        at.SetD(3, Mul(d_n, r));
        at.SetState(at.row.dc, Mul(dh, z));
    }
};

template <bool kIsTanh>
struct RnnTraining {
    static FUSEDCELL_INLINE void Forward(const TrainingPanel& at) {
        const F32 a = at.PreActivation<1>(0);
        at.SetState(at.row.h_next, kIsTanh ? Tanh(a) : Relu(a));
    }
    static FUSEDCELL_INLINE void Backward(const TrainingPanel& at) {
        const F32 y = at.State(at.row.h_next);
        const F32 dh = at.ByH();
        at.SetD(0, kIsTanh ? Mul(dh, SlopeOfTanh(y)) : SelectLess(Zero(), y, dh, Zero()));
    }
};

template <class Finish>
FUSEDCELL_INLINE void EveryPanel(const TrainingRow* rows, ptrdiff_t num_rows, ptrdiff_t units, const Finish& finish) {
    for (ptrdiff_t r = 0; r < num_rows; ++r) {
        for (ptrdiff_t offset = 0; offset < units; offset += kLanes) {
            finish(TrainingPanel{rows[r], offset, units - offset < kLanes ? units - offset : kLanes, units});
        }
    }
}
template <class Cell>
void Forward(const TrainingRow* rows, ptrdiff_t num_rows, ptrdiff_t units) {
    EveryPanel(rows, num_rows, units, [](const TrainingPanel& at) { Cell::Forward(at); });
}
template <class Cell>
void Backward(const TrainingRow* rows, ptrdiff_t num_rows, ptrdiff_t units) {
    EveryPanel(rows, num_rows, units, [](const TrainingPanel& at) { Cell::Backward(at); });
}

// A tile of kOuterGates of d and up to kOuterVectors of x: their products fill the registers. Rows lie apart in memory,
// often by a power of two, of which a cache holds few, so that both are copied first: all of each x, and kOuterTiles
// tiles of d, each of which meets kOuterVectors of x while the nearest cache has them.
constexpr int kOuterGates = kLanes == 1 ? 4 : kLanes == 8 ? 6 : 12;
constexpr int kOuterVectors = kLanes == 1 ? 1 : 2;
constexpr int kOuterTiles = 4;
constexpr int kOuterCopied = DivideUp(kOuterGates, kLanes) * kLanes;
static_assert(kOuterCopied - 1 <= kOuterOverrun);
static_assert(kOuterTiles * kOuterGates <= OuterShape::kMostCopied && kOuterCopied <= OuterShape::kMostLanes);

template <int kVectors>
FUSEDCELL_NOINLINE void OuterTile(const float* d, const float* x, ptrdiff_t num_rows, float* total, ptrdiff_t stride,
                                  ptrdiff_t gates, ptrdiff_t inputs) {
    F32 acc[kOuterGates][kVectors];
    FUSEDCELL_UNROLL
    for (int g = 0; g < kOuterGates; ++g) {
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            acc[g][v] = Zero();
            FUSEDCELL_PREFETCH(total + g * stride + v * kLanes);    // of a large matrix in an outer cache by now
        }
    }
    FUSEDCELL_NO_UNROLL
    for (ptrdiff_t r = 0; r < num_rows; ++r, d += kOuterGates, x += kVectors * kLanes) {
        F32 in[kVectors];
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) in[v] = Load(x + v * kLanes);
        FUSEDCELL_UNROLL
        for (int g = 0; g < kOuterGates; ++g) {
            const F32 factor = Broadcast(d[g]);
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) acc[g][v] = MulAdd(factor, in[v], acc[g][v]);
        }
    }
    if (gates == kOuterGates && inputs == kVectors * kLanes) {
        FUSEDCELL_UNROLL
        for (int g = 0; g < kOuterGates; ++g) {
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) {
                float* const sum = total + g * stride + v * kLanes;
                Store(sum, Add(Load(sum), acc[g][v]));
            }
        }
        return;
    }
    F32 sums[kOuterGates][kVectors];    // through memory, so that what is added up is one small loop
    FUSEDCELL_UNROLL
    for (int g = 0; g < kOuterGates; ++g) {
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) sums[g][v] = acc[g][v];
    }
    FUSEDCELL_NO_UNROLL
    for (ptrdiff_t g = 0; g < gates; ++g, total += stride) {
        FUSEDCELL_NO_UNROLL
        for (ptrdiff_t i = 0; i < inputs; i += kLanes) {
            const ptrdiff_t units = inputs - i < kLanes ? inputs - i : kLanes;
            StoreUnits(total + i, Add(LoadUnits(total + i, units), sums[g][i / kLanes]), units);
        }
    }
}

// Every tile of each x, in the order in which their copies lie: visit(factor, k, inputs).
template <class Visit>
FUSEDCELL_INLINE void EveryWidth(const OuterShape& shape, const Visit& visit) {
    constexpr ptrdiff_t kWidth = kOuterVectors * kLanes;
    FUSEDCELL_NO_UNROLL
    for (int factor = 0; factor < kOuterFactors; ++factor) {
        const ptrdiff_t all = shape.inputs[factor];
        for (ptrdiff_t k = 0; k < all; k += kWidth) visit(factor, k, all - k < kWidth ? all - k : kWidth);
    }
}

void Outer(const OuterRow* rows, ptrdiff_t num_rows, const OuterShape& shape, float* scratch) {
    float* x = scratch;
    EveryWidth(shape, [&](int factor, ptrdiff_t k, ptrdiff_t inputs) {
        for (ptrdiff_t r = 0; r < num_rows; ++r) {
            FUSEDCELL_NO_UNROLL
            for (ptrdiff_t i = 0; i < inputs; i += kLanes, x += kLanes) {
                Store(x, LoadUnits(rows[r].x[factor] + k + i, inputs - i < kLanes ? inputs - i : kLanes));
            }
        }
    });
    float* const tiles = x;
    const ptrdiff_t tile_floats = num_rows * kOuterGates + kOuterCopied;
    for (ptrdiff_t first = shape.first; first < shape.last; first += kOuterTiles * kOuterGates) {
        const ptrdiff_t left = (shape.last - first + kOuterGates - 1) / kOuterGates;
        const ptrdiff_t count = left < kOuterTiles ? left : kOuterTiles;
        for (ptrdiff_t r = 0; r < num_rows; ++r) {
            const float* d = rows[r].d + first;
            float* to = tiles + r * kOuterGates;
            FUSEDCELL_UNROLL
            for (int tile = 0; tile < kOuterTiles; ++tile, d += kOuterGates, to += tile_floats) {
                if (tile == count) break;
                // The last vector goes beyond the row, into the next one, which comes later.
                FUSEDCELL_UNROLL
                for (int i = 0; i < kOuterCopied; i += kLanes) Store(to + i, Load(d + i));
            }
        }
        x = scratch;
        EveryWidth(shape, [&](int factor, ptrdiff_t k, ptrdiff_t inputs) {
            const ptrdiff_t stride = shape.inputs[factor];
            const int vectors = inputs > kLanes ? kOuterVectors : 1;
            const auto run = vectors == kOuterVectors ? &OuterTile<kOuterVectors> : &OuterTile<1>;
            for (ptrdiff_t tile = 0; tile < count; ++tile) {
                const ptrdiff_t g = first + tile * kOuterGates;
                const ptrdiff_t gates = shape.last - g < kOuterGates ? shape.last - g : kOuterGates;
                run(tiles + tile * tile_floats, x, num_rows, shape.totals[factor] + g * stride + k, stride, gates,
                    inputs);
            }
            x += num_rows * vectors * kLanes;
        });
    }
}

/// Adds the units of `value` to each total that is asked for.
FUSEDCELL_INLINE void AddToTotals(const OuterShape& shape, ptrdiff_t g, F32 value, ptrdiff_t units) {
    FUSEDCELL_NO_UNROLL
    for (float* const total : shape.totals) {
        if (total != nullptr) StoreUnits(total + g, Add(LoadUnits(total + g, units), value), units);
    }
}

void ColumnSums(const OuterRow* rows, ptrdiff_t num_rows, const OuterShape& shape, float*) {
    constexpr int kVectors = 8;    // whose additions wait for nothing of each other
    for (ptrdiff_t g = shape.first; g < shape.last;) {
        F32 sums[kVectors];
        FUSEDCELL_UNROLL
        for (int v = 0; v < kVectors; ++v) sums[v] = Zero();
        const ptrdiff_t left = shape.last - g;
        if (left >= kVectors * kLanes) {
            FUSEDCELL_NO_UNROLL
            for (ptrdiff_t r = 0; r < num_rows; ++r) {
                FUSEDCELL_UNROLL
                for (int v = 0; v < kVectors; ++v) sums[v] = Add(sums[v], Load(rows[r].d + g + v * kLanes));
            }
            FUSEDCELL_UNROLL
            for (int v = 0; v < kVectors; ++v) AddToTotals(shape, g + v * kLanes, sums[v], kLanes);
            g += kVectors * kLanes;
        } else {
            const ptrdiff_t units = left < kLanes ? left : kLanes;
            FUSEDCELL_NO_UNROLL
            for (ptrdiff_t r = 0; r < num_rows; ++r) sums[0] = Add(sums[0], LoadUnits(rows[r].d + g, units));
            AddToTotals(shape, g, sums[0], units);
            g += units;
        }
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
