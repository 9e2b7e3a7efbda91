// Two vectors that take the same operations: the gates of two panels, which wait for nothing of each other, so that one
// works while the other waits. What is written for a V is for one vector or for two.
#pragma once

namespace fusedcell::FUSEDCELL_ISA {
namespace {

struct Pair {
    F32 first;
    F32 second;
};

template <class V>
constexpr int kVectorsOf = static_cast<int>(sizeof(V) / sizeof(F32));

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
FUSEDCELL_INLINE Pair PowerOfTwo(Pair a) { return {PowerOfTwo(a.first), PowerOfTwo(a.second)}; }
FUSEDCELL_INLINE Pair Relu(Pair a) { return {Relu(a.first), Relu(a.second)}; }

template <class V>
FUSEDCELL_INLINE V BroadcastTo(float a) {
    if constexpr (kVectorsOf<V> == 1) {
        return Broadcast(a);
    } else {
        return {Broadcast(a), Broadcast(a)};
    }
}

/// Vectors at p and, of a pair, `stride` floats later.
template <class V>
FUSEDCELL_INLINE V LoadAt(const float* p, ptrdiff_t stride) {
    if constexpr (kVectorsOf<V> == 1) {
        return Load(p);
    } else {
        return {Load(p), Load(p + stride)};
    }
}
template <class V>
FUSEDCELL_INLINE V VectorsAt(const F32* p, ptrdiff_t stride) {
    if constexpr (kVectorsOf<V> == 1) {
        return *p;
    } else {
        return {p[0], p[stride]};
    }
}

/// `units` floats from p on, as many as V has where it is a pair.
template <class V>
FUSEDCELL_INLINE V LoadUnits(const float* p, ptrdiff_t units) {
    if constexpr (kVectorsOf<V> == 1) {
        return units == kLanes ? Load(p) : LoadFirst(p, units);
    } else {
        return LoadAt<V>(p, kLanes);
    }
}
FUSEDCELL_INLINE void StoreUnits(float* p, F32 a, ptrdiff_t units) {
    if (units == kLanes) {
        Store(p, a);
    } else {
        StoreFirst(p, a, units);
    }
}
FUSEDCELL_INLINE void StoreUnits(float* p, Pair a, ptrdiff_t) {
    Store(p, a.first);
    Store(p + kLanes, a.second);
}
FUSEDCELL_INLINE void StoreAll(float* p, F32 a) { Store(p, a); }
FUSEDCELL_INLINE void StoreAll(float* p, Pair a) { StoreUnits(p, a, 2 * kLanes); }

}    // namespace
}    // namespace fusedcell::FUSEDCELL_ISA
