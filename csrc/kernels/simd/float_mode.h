// The floating-point mode that every kernel runs in: round to nearest even, exceptions masked, and denormals flushed
// to zero on the way in and out, because a recurrent state that fades to silence ends in denormals, which slow some
// CPUs down tenfold.
#pragma once

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#elif defined(_M_ARM64) && !defined(__clang__)
#include <intrin.h>
#endif

namespace fusedcell {

// The control register as a whole, so that no mode of the caller's is left standing, a trap that it has unmasked least
// of all.
#if defined(__x86_64__) || defined(_M_X64)
using FloatMode = uint32_t;
constexpr FloatMode kStandardFloatMode = 0x1f80;    // all exceptions masked, nearest even: as every thread starts
constexpr FloatMode kKernelFloatMode = 0x9fc0;      // and FTZ | DAZ
constexpr bool kModeHasStickyFlags = true;          // the exception flags live in the same register
inline FloatMode current_float_mode() { return _mm_getcsr(); }
inline void set_float_mode(FloatMode mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__) || defined(_M_ARM64)
using FloatMode = uint64_t;
constexpr FloatMode kStandardFloatMode = 0;
constexpr FloatMode kKernelFloatMode = FloatMode{1} << 24;    // FZ
constexpr bool kModeHasStickyFlags = false;    // they live in FPSR and stay raised, as after any arithmetic
#if defined(_M_ARM64) && !defined(__clang__)
inline FloatMode current_float_mode() { return static_cast<FloatMode>(_ReadStatusReg(ARM64_FPCR)); }
inline void set_float_mode(FloatMode mode) { _WriteStatusReg(ARM64_FPCR, static_cast<__int64>(mode)); }
#else
inline FloatMode current_float_mode() {
    FloatMode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode)::"memory");
    return mode;
}
inline void set_float_mode(FloatMode mode) { __asm__ volatile("msr fpcr, %0" ::"r"(mode) : "memory"); }
#endif
#elif defined(__arm__) && defined(__ARM_FP) && (__ARM_FP & 0x8)
// FPSCR of AArch32 has the exception flags too, and in its upper bits the result of the last comparison, which is not
// of the mode. Through the compilers' own functions, which know that these bits change.
using FloatMode = uint32_t;
constexpr FloatMode kStandardFloatMode = 0;
constexpr FloatMode kKernelFloatMode = FloatMode{1} << 24;    // FZ
constexpr bool kModeHasStickyFlags = true;
inline FloatMode current_float_mode() {
    constexpr FloatMode kComparison = FloatMode{0xf} << 28;
    const FloatMode mode = __builtin_arm_get_fpscr() & ~kComparison;
    __asm__ volatile("" ::: "memory");
    return mode;
}
inline void set_float_mode(FloatMode mode) {
    __asm__ volatile("" ::: "memory");
    __builtin_arm_set_fpscr(mode);
    __asm__ volatile("" ::: "memory");
}
#else
#error "fusedcell supports x86-64, AArch64, and 32-bit ARM with floating-point registers for double"
#endif

/// Sets a mode, the kernels' if not another, and gives the caller's back however the scope is left.
class ScopedFloatMode {
public:
    explicit ScopedFloatMode(FloatMode mode = kKernelFloatMode) : saved_(current_float_mode()), mode_(mode) {
        if (saved_ != mode_) set_float_mode(mode_);
    }
    ~ScopedFloatMode() {
        if (saved_ != mode_ || kModeHasStickyFlags) set_float_mode(saved_);
    }
    ScopedFloatMode(const ScopedFloatMode&) = delete;
    ScopedFloatMode& operator=(const ScopedFloatMode&) = delete;

private:
    const FloatMode saved_;
    const FloatMode mode_;
};

/// The value, as what was not known before and is wanted at once: compilers do not know that arithmetic depends on the
/// mode, so they may do that of a local variable before the mode is set, or after it is given back. Memory they leave
/// in its place.
template <class T>
inline T pinned(T value) {
    volatile T here = value;
    return here;
}

/// The nearest float, whatever the caller's mode.
inline float nearest_float(double value) {
    const ScopedFloatMode mode(kStandardFloatMode);
    return pinned(static_cast<float>(pinned(value)));
}

}    // namespace fusedcell
