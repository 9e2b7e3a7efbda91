// One vector, or two that take the same operations: gates of two panels of a row, or of a panel of two rows, which wait
// for nothing of each other, so that one works while the other waits. What is written for a V is for either.
#pragma once

#include "kernels/generic/tier.h"

namespace fusedcell::FUSEDCELL_ISA {
namespace {

struct Pair {
    F32 first;
    F32 second;
};

FUSEDCELL_INLINE Pair Add(Pair a, Pair b) { return {Add(a.first, b.first), Add(a.second, b.second)}; }
FUSEDCELL_INLINE Pair Sub(Pair a, Pair b) { return {Sub(a.first, b.first), Sub(a.second, b.second)}; }
FUSEDCELL_INLINE Pair Mul(Pair a, Pair b) { return {Mul(a.first, b.first), Mul(a.second, b.second)}; }
FUSEDCELL_INLINE Pair Div(Pair a, Pair b) { return {Div(a.first, b.first), Div(a.second, b.second)}; }
FUSEDCELL_INLINE Pair MulAdd(Pair a, Pair b, Pair c) {
    return {MulAdd(a.first, b.first, c.first), MulAdd(a.second, b.second, c.second)};
}
FUSEDCELL_INLINE Pair Clamp(Pair a, Pair low, Pair high) {
    return {Clamp(a.first, low.first, high.first), Clamp(a.second, low.second, high.second)};
}
FUSEDCELL_INLINE Pair Relu(Pair a) { return {Relu(a.first), Relu(a.second)}; }
FUSEDCELL_INLINE Pair PowerOfTwo(Pair a) { return {PowerOfTwo(a.first), PowerOfTwo(a.second)}; }

template <class V>
FUSEDCELL_INLINE V BroadcastTo(float a) {
    if constexpr (sizeof(V) == sizeof(F32)) {
        return Broadcast(a);
    } else {
        return {Broadcast(a), Broadcast(a)};
    }
}

// Where a vector is in memory, and where the two of a pair are.
template <class T>
struct Place {
    T* first;
};
template <class T>
struct Places {
    T* first;
    T* second;
};

template <class T>
FUSEDCELL_INLINE F32 Load(Place<T> p) {
    return Load(p.first);
}
template <class T>
FUSEDCELL_INLINE Pair Load(Places<T> p) {
    return {Load(p.first), Load(p.second)};
}
FUSEDCELL_INLINE void Store(Place<float> p, F32 a) { Store(p.first, a); }
FUSEDCELL_INLINE void Store(Places<float> p, Pair a) {
    Store(p.first, a.first);
    Store(p.second, a.second);
}

FUSEDCELL_INLINE F32 LoadUnits(const float* p, ptrdiff_t units) {
    return units == kLanes ? Load(p) : LoadFirst(p, units);
}
FUSEDCELL_INLINE void StoreUnits(float* p, F32 a, ptrdiff_t units) {
    if (units == kLanes) {
        Store(p, a);
    } else {
        StoreFirst(p, a, units);
    }
}

/// What Finish makes results of: a panel of a row, which may have fewer units than lanes ...
template <class Row>
struct PanelSums {
    static constexpr bool kIsPair = false;
    const Row& row;
    ptrdiff_t panel;
    const F32* sums;
    ptrdiff_t units;
    const float* projection;    // of this panel, of a cell

    FUSEDCELL_INLINE F32 Sum(int gate) const { return sums[gate]; }
    /// What the input adds to sums; panels have `gates` of those.
    FUSEDCELL_INLINE F32 Projected(int, int gate) const { return Load(projection + gate * kLanes); }
    /// Vector `v` of this panel in an array of the row, of which panels have `vectors`.
    template <class T>
    FUSEDCELL_INLINE Place<T> In(T* Row::* array, int vectors = 1, int v = 0) const {
        return {row.*array + (panel * vectors + v) * kLanes};
    }
    template <class T>
    FUSEDCELL_INLINE F32 LoadUnitsOf(Place<T> p) const {
        return LoadUnits(p.first, units);
    }
    FUSEDCELL_INLINE void StoreUnitsOf(Place<float> p, F32 a) const { StoreUnits(p.first, a, units); }
};

/// ... or a panel with all its units and the next one, which has `units`, in a run that leaves no trace ...
template <class Row, int kGates>
struct Neighbours {
    static constexpr bool kIsPair = true;
    PanelSums<Row> first;
    ptrdiff_t units;

    template <class T>
    FUSEDCELL_INLINE Pair LoadUnitsOf(Places<T> p) const {
        return {Load(p.first), LoadUnits(p.second, units)};
    }
    FUSEDCELL_INLINE void StoreUnitsOf(Places<float> p, Pair a) const {
        Store(p.first, a.first);
        StoreUnits(p.second, a.second, units);
    }
    FUSEDCELL_INLINE Pair Sum(int gate) const { return {first.sums[gate], first.sums[kGates + gate]}; }
    FUSEDCELL_INLINE Pair Projected(int gates, int gate) const {
        return {first.Projected(gates, gate), first.Projected(gates, gates + gate)};
    }
    template <class T>
    FUSEDCELL_INLINE Places<T> In(T* Row::* array, int vectors = 1, int v = 0) const {
        T* p = first.In(array, vectors, v).first;
        return {p, p + vectors * kLanes};
    }
};

/// ... or a panel with all its units of two rows, likewise.
template <class Row>
struct OfTwoRows {
    static constexpr bool kIsPair = true;
    PanelSums<Row> first;
    PanelSums<Row> second;

    template <class T>
    FUSEDCELL_INLINE Pair LoadUnitsOf(Places<T> p) const {
        return Load(p);
    }
    FUSEDCELL_INLINE void StoreUnitsOf(Places<float> p, Pair a) const { Store(p, a); }
    FUSEDCELL_INLINE Pair Sum(int gate) const { return {first.Sum(gate), second.Sum(gate)}; }
    FUSEDCELL_INLINE Pair Projected(int gates, int gate) const {
        return {first.Projected(gates, gate), second.Projected(gates, gate)};
    }
    template <class T>
    FUSEDCELL_INLINE Places<T> In(T* Row::* array, int vectors = 1, int v = 0) const {
        return {first.In(array, vectors, v).first, second.In(array, vectors, v).first};
    }
};

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
