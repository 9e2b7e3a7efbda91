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

/// Sets the kernels' mode and gives the caller's back, sticky exception flags included, however the scope is left.
class ScopedFloatMode {
public:
    ScopedFloatMode() : saved_(read()) {
        if (saved_ != kMode) write(kMode);
    }
    ~ScopedFloatMode() {
        if (saved_ != kMode || kHasStickyFlags) write(saved_);
    }
    ScopedFloatMode(const ScopedFloatMode&) = delete;
    ScopedFloatMode& operator=(const ScopedFloatMode&) = delete;

private:
#if defined(__x86_64__) || defined(_M_X64)
    using Word = uint32_t;
    static constexpr Word kMode = 0x9fc0;            // FTZ | DAZ | all exceptions masked, nearest even
    static constexpr bool kHasStickyFlags = true;    // the exception flags live in the same register
    static Word read() { return _mm_getcsr(); }
    static void write(Word mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__) || defined(_M_ARM64)
    using Word = uint64_t;
    static constexpr Word kMode = uint64_t{1} << 24;    // FZ, nearest even
    static constexpr bool kHasStickyFlags = false;      // they live in FPSR
#if defined(_M_ARM64) && !defined(__clang__)
    static Word read() { return static_cast<Word>(_ReadStatusReg(ARM64_FPCR)); }
    static void write(Word mode) { _WriteStatusReg(ARM64_FPCR, static_cast<__int64>(mode)); }
#else
    static Word read() {
        Word mode;
        __asm__ volatile("mrs %0, fpcr" : "=r"(mode)::"memory");
        return mode;
    }
    static void write(Word mode) { __asm__ volatile("msr fpcr, %0" ::"r"(mode) : "memory"); }
#endif
#else
#error "fusedcell supports x86-64 and AArch64"
#endif
    const Word saved_;
};

}    // namespace fusedcell
