// Gates of cells with options: any activation of the ONNX recurrent operators, clip, coupled gates and peepholes.
//
// `linear` has left the recurrent part a in memory, by the same chain as ever, so these need no weights of any type and
// there is one copy of them a tier. With p the input projection, for every gate
//
//     u = p + a,  then u = fma(P, c, u) with a peephole,  then u clamped to [-clip, clip],  then the activation
//
//     RNN     h' = f(u)
//     GRU     z = f(u_z), r = f(u_r);  u_n = fma(r, a_n, p_n), or p_n + R_n (r h);  n = g(u_n)
//             h' = fma(z, h, (1 - z) n)
//     LSTM    i = f(u_i), f = f(u_f) or 1 - i, g = g(u_g);  c' = fma(f, c, i g)
//             o = f(u_o), whose peephole sees c';  h' = o h(c'), where c' is clamped only on its way into h()
//
// Activations, with alpha and beta rounded to float; products with alpha are rounded by themselves unless fused:
//
//     Sigmoid, Tanh     as in activations.h
//     Affine            fma(alpha, x, beta)
//     LeakyRelu         x < 0 ? alpha x : x
//     ThresholdedRelu   x < alpha ? 0 : x
//     ScaledTanh        alpha tanh(beta x)
//     HardSigmoid       fma(alpha, x, beta) clamped to [0, 1]
//     Elu               x < 0 ? alpha m : x, m = e^x - 1 by the form that activations.h has for tanh
//     Softsign          x / (1 + |x|), x clamped to +-2^30, from where on it is exactly +-1
//     Softplus          fma(s, p(s^2), max(x, 0)) with e = e^-|x|, s = e / (2 + e) and p(s^2) close to log1p(e) / s
//
// p is the degree-4 minimax polynomial in relative error, its coefficients rounded to float one by one; relative error
// 4.5e-9. tools/fit_log1p.py derives it. Errors over all floats, checked by tests/test_general_activations.py:
//     Elu        6.4e-8 absolute and 1.705e-7 relative for alpha = 1 and x < 0
//     Softsign   1.2e-7 relative
//     Softplus   1.1e-6 relative from -20 on, 2^-30 absolute below: as sigmoid's, its exponential stops at 2^-30
// NaN gives NaN in all of them. What nodes of models have besides is
//
//     Clip               x < alpha ? alpha : x, and of that v beta < v ? beta : v
//     Abs                x > 0 ? x : 0 - x
//     Square, Sqrt       x x, and IEEE's root; a negative x has none, and gives NaN
//     Gelu, GeluTanh, Silu, Exp, Log    as in functions.h
#pragma once

#include "kernels/generic/functions.h"
#include "kernels/generic/tile.h"
#include "kernels/kept.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

/// e^x - 1 for x <= 0.
FUSEDCELL_INLINE F32 ExpMinusOne(F32 x) {
    const auto e = Exp2Parts(x, kLog2E);
    return Add(Mul(e.power, e.fraction), Sub(e.power, Broadcast(1.0F)));
}

FUSEDCELL_INLINE F32 Softsign(F32 x) {
    constexpr float kSaturated = 0x1p30F;
    const F32 finite = Clamp(x, Broadcast(-kSaturated), Broadcast(kSaturated));
    const F32 magnitude = SelectLess(finite, Zero(), Negative(finite), finite);
    return Div(finite, Add(Broadcast(1.0F), magnitude));
}

FUSEDCELL_INLINE F32 Softplus(F32 x) {
    const F32 e = ExpNegative(SelectLess(x, Zero(), Negative(x), x));
    const F32 s = Div(e, Add(Broadcast(2.0F), e));
    return MulAdd(s, LogPolynomial(Mul(s, s)), Relu(x));
}

FUSEDCELL_INLINE F32 ActivateAs(ActivationKind kind, F32 x, const Activation& activation) {
    const F32 alpha = Broadcast(activation.alpha);
    const F32 beta = Broadcast(activation.beta);
    switch (kind) {
        case ActivationKind::kRelu: return Relu(x);
        case ActivationKind::kTanh: return Tanh(x);
        case ActivationKind::kSigmoid: return Sigmoid(x);
        case ActivationKind::kAffine: return MulAdd(alpha, x, beta);
        case ActivationKind::kLeakyRelu: return SelectLess(x, Zero(), Mul(alpha, x), x);
        case ActivationKind::kThresholdedRelu: return SelectLess(x, alpha, Zero(), x);
        case ActivationKind::kScaledTanh: return Mul(alpha, Tanh(Mul(beta, x)));
        // Relu makes -0 to +0, of which minima and maxima choose differently on different CPUs.
        case ActivationKind::kHardSigmoid: return Clamp(Relu(MulAdd(alpha, x, beta)), Zero(), Broadcast(1.0F));
        case ActivationKind::kElu: return SelectLess(x, Zero(), Mul(alpha, ExpMinusOne(x)), x);
        case ActivationKind::kSoftsign: return Softsign(x);
        case ActivationKind::kSoftplus: return Softplus(x);
        case ActivationKind::kGelu: return Gelu(x);
        case ActivationKind::kGeluTanh: return GeluTanh(x);
        case ActivationKind::kSilu: return Silu(x);
        case ActivationKind::kClip: {
            const F32 raised = SelectLess(x, alpha, alpha, x);
            return SelectLess(beta, raised, beta, raised);
        }
        case ActivationKind::kAbs: return Magnitude(x);
        case ActivationKind::kSquare: return Mul(x, x);
        case ActivationKind::kSqrt: return Sqrt(x);
        case ActivationKind::kExp: return Exp(x);
        case ActivationKind::kLog: return Log(x);
    }
    return x;
}

// One copy for all gates of all cells: the branch is the same for a whole run.
FUSEDCELL_NOINLINE F32 Activate(F32 x, const Activation& activation) {
    switch (activation.kind) {
#define FUSEDCELL_ACTIVATION(name, parameters) \
    case ActivationKind::k##name: return ActivateAs(ActivationKind::k##name, x, activation);
#include "kernels/activations.inc"
        default: return x;
    }
}

// One panel of one row: where its vectors are, and the options.
struct GatePanel {
    const CellRow& row;
    const float* sums;          // of this panel
    const float* projection;    // of this panel
    ptrdiff_t offset;           // its first unit
    ptrdiff_t units;
    const CellOptions& options;

    FUSEDCELL_INLINE F32 PreActivation(int gate) const {
        return Add(Load(projection + gate * kLanes), Load(sums + gate * kLanes));
    }
    /// The same with what peephole `index` of i f o adds.
    FUSEDCELL_INLINE F32 PreActivation(int gate, int index, F32 c) const {
        const F32 u = PreActivation(gate);
        if (options.peephole == nullptr) return u;
        return MulAdd(Load(options.peephole + offset * 3 + index * kLanes), c, u);
    }
    FUSEDCELL_INLINE F32 Clipped(F32 u) const { return Clamp(u, Broadcast(-options.clip), Broadcast(options.clip)); }
    FUSEDCELL_INLINE F32 Activated(int index, F32 u) const { return Activate(Clipped(u), options.activations[index]); }

    FUSEDCELL_INLINE F32 LoadState(const float* state) const { return LoadUnits(state + offset, units); }
    FUSEDCELL_INLINE void StoreState(float* state, F32 value) const { StoreUnits(state + offset, value, units); }

    FUSEDCELL_INLINE void Trace(int first_gate, const F32* values, int count) const {
        if (TraceOf(row) != nullptr) FUSEDCELL_ISA::Trace(*row.trace, offset, units, first_gate, values, count);
    }
};

struct GeneralRnn {
    static constexpr int kGates = 1;
    static constexpr int kProjections = 1;    // vectors of the input projection in a panel

    static FUSEDCELL_INLINE void Finish(const GatePanel& panel) {
        panel.StoreState(panel.row.h_next, panel.Activated(0, panel.PreActivation(0)));
    }
};

struct GeneralLstm {
    static constexpr int kGates = 4;
    static constexpr int kProjections = 4;

    static FUSEDCELL_INLINE void Finish(const GatePanel& panel) {
        const CellOptions& options = panel.options;
        const F32 c = panel.LoadState(panel.row.c);
        const F32 i = panel.Activated(0, panel.PreActivation(0, 0, c));
        const F32 f = options.input_forget ? Sub(Broadcast(1.0F), i) : panel.Activated(0, panel.PreActivation(1, 1, c));
        const F32 g = panel.Activated(1, panel.PreActivation(2));
        const F32 c_next = MulAdd(f, c, Mul(i, g));
        panel.StoreState(panel.row.c, c_next);
        const F32 o = panel.Activated(0, panel.PreActivation(3, 2, c_next));
        const F32 entering = options.clip_before_h ? panel.Clipped(c_next) : c_next;
        panel.StoreState(panel.row.h_next, Mul(o, Activate(entering, options.activations[2])));
        const F32 gates[] = {i, f, g, o};
        panel.Trace(0, gates, 4);
        if (TraceOf(panel.row) != nullptr && panel.row.trace->c != nullptr) {
            panel.StoreState(panel.row.trace->c, c_next);
        }
    }
};

FUSEDCELL_INLINE void FinishGru(const GatePanel& panel, F32 z, F32 u_n, F32 h) {
    const F32 n = panel.Activated(1, u_n);
    panel.Trace(2, &n, 1);
    panel.StoreState(panel.row.h_next, MulAdd(z, h, Mul(Sub(Broadcast(1.0F), z), n)));
}

struct GeneralGruResetAfter {
    static constexpr int kGates = 3;
    static constexpr int kProjections = 3;

    static FUSEDCELL_INLINE void Finish(const GatePanel& panel) {
        const F32 r = panel.Activated(0, panel.PreActivation(0));
        const F32 z = panel.Activated(0, panel.PreActivation(1));
        const F32 gates[] = {r, z};
        panel.Trace(0, gates, 2);
        const F32 u_n = MulAdd(r, Load(panel.sums + 2 * kLanes), Load(panel.projection + 2 * kLanes));
        FinishGru(panel, z, u_n, panel.LoadState(panel.row.h));
    }
};

// First pass of the form that resets before: leaves z in row.update and r h, the input of the second pass's product, in
// row.reset_h, both padded to whole vectors.
struct GeneralGruResetBeforeGates {
    static constexpr int kGates = 2;
    static constexpr int kProjections = 3;

    static FUSEDCELL_INLINE void Finish(const GatePanel& panel) {
        const F32 r = panel.Activated(0, panel.PreActivation(0));
        const F32 z = panel.Activated(0, panel.PreActivation(1));
        const F32 gates[] = {r, z};
        panel.Trace(0, gates, 2);
        Store(panel.row.update + panel.offset, z);
        Store(panel.row.reset_h + panel.offset, Mul(r, panel.LoadState(panel.row.h)));
    }
};

struct GeneralGruResetBeforeCandidate {
    static constexpr int kGates = 1;
    static constexpr int kProjections = 3;

    static FUSEDCELL_INLINE void Finish(const GatePanel& panel) {
        const F32 u_n = Add(Load(panel.projection + 2 * kLanes), Load(panel.sums));
        FinishGru(panel, Load(panel.row.update + panel.offset), u_n, panel.LoadState(panel.row.h));
    }
};

/// A cell without options whose recurrent part is in memory, too.
template <class Kernel>
struct FromSums {
    static constexpr int kGates = Kernel::kGates;
    static constexpr int kProjections = 0;    // it finds them by itself

    static FUSEDCELL_INLINE void Finish(const GatePanel& panel) {
        F32 sums[kGates];
        FUSEDCELL_UNROLL
        for (int gate = 0; gate < kGates; ++gate) sums[gate] = Load(panel.sums + gate * kLanes);
        const ptrdiff_t number = panel.offset / kLanes;
        const float* projection = ProjectionOf<Kernel>(panel.row, number);
        Kernel::Finish(PanelSums<CellRow>{panel.row, number, sums, panel.units, projection});
    }
};

template <class Cell>
void Gates(const CellRow* rows, ptrdiff_t num_rows, const GateSums& sums, const CellOptions& options) {
    for (ptrdiff_t r = 0; r < num_rows; ++r) {
        const float* row_sums = sums.data + r * sums.stride;
        for (ptrdiff_t panel = sums.first; panel < sums.last; ++panel) {
            const ptrdiff_t offset = panel * kLanes;
            const ptrdiff_t units = sums.units - offset < kLanes ? sums.units - offset : kLanes;
            Cell::Finish({rows[r], row_sums + offset * Cell::kGates, rows[r].projection + offset * Cell::kProjections,
                          offset, units, options});
        }
    }
}

template <ActivationKind kKind>
FUSEDCELL_NOINLINE void ActivateRow(const float* x, float* y, ptrdiff_t size, const Activation& activation) {
    ptrdiff_t i = 0;
    for (; i + kLanes <= size; i += kLanes) Store(y + i, ActivateAs(kKind, Load(x + i), activation));
    if (i < size) StoreFirst(y + i, ActivateAs(kKind, LoadFirst(x + i, size - i), activation), size - i);
}

// Each has its own loop, which keeps its constants in registers.
void ActivateAll(const float* x, float* y, ptrdiff_t size, const Activation& activation) {
    switch (activation.kind) {
#define FUSEDCELL_ACTIVATION(name, parameters)                                                               \
    case ActivationKind::k##name:                                                                            \
        if constexpr (keeps_activation(#name)) ActivateRow<ActivationKind::k##name>(x, y, size, activation); \
        return;
#define FUSEDCELL_NODE_ACTIVATION(name, parameters) FUSEDCELL_ACTIVATION(name, parameters)
#include "kernels/activations.inc"
    }
}

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
