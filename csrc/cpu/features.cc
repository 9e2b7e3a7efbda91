#include "cpu/features.h"

#include <algorithm>

#if defined(__x86_64__) || defined(_M_X64)
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif

namespace fusedcell {
namespace {

#if defined(__x86_64__) || defined(_M_X64)

struct CpuidResult {
    uint32_t eax, ebx, ecx, edx;
};

CpuidResult cpuid(uint32_t leaf, uint32_t subleaf) {
#if defined(_MSC_VER)
    int regs[4];
    __cpuidex(regs, static_cast<int>(leaf), static_cast<int>(subleaf));
    return {static_cast<uint32_t>(regs[0]), static_cast<uint32_t>(regs[1]), static_cast<uint32_t>(regs[2]),
            static_cast<uint32_t>(regs[3])};
#else
    CpuidResult r{};
    __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
    return r;
#endif
}

uint64_t enabled_state() {
#if defined(_MSC_VER)
    return _xgetbv(0);
#else
    uint32_t low = 0;
    uint32_t high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t{high} << 32) | low;
#endif
}

constexpr bool bit(uint64_t word, int index) { return ((word >> index) & 1U) != 0; }

uint32_t detect() {
    constexpr uint64_t kYmm = 0x06;    // of XCR0
    constexpr uint64_t kZmm = 0xe6;
    const uint32_t max_leaf = cpuid(0, 0).eax;
    const CpuidResult leaf1 = max_leaf >= 1 ? cpuid(1, 0) : CpuidResult{};
    const CpuidResult leaf7 = max_leaf >= 7 ? cpuid(7, 0) : CpuidResult{};
    const CpuidResult leaf7_1 = leaf7.eax >= 1 ? cpuid(7, 1) : CpuidResult{};
    const bool os_uses_xsave = bit(leaf1.ecx, 27);
    const uint64_t saved = os_uses_xsave ? enabled_state() : 0;
    uint32_t features = 0;
#define FUSEDCELL_X86_FEATURE(constant, name, word, index, registers) \
    if (bit(word, index) && (saved & (registers)) == (registers)) features |= (constant);
#include "cpu/features.inc"
    return features;
}

#elif defined(__linux__)

uint32_t detect() {
    uint32_t features = 0;
#if defined(__arm__)
#define FUSEDCELL_ARM_FEATURE(constant, name, bit) \
    if ((getauxval(AT_HWCAP) >> (bit)) & 1U) features |= (constant);
#else
#define FUSEDCELL_ARM64_FEATURE(constant, name, hwcap, bit, sysctl, processor_feature) \
    if ((getauxval(hwcap) >> (bit)) & 1U) features |= (constant);
#endif
#include "cpu/features.inc"
    return features;
}

#elif defined(__APPLE__)

bool sysctl_flag(const char* name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

uint32_t detect() {
    uint32_t features = 0;
#define FUSEDCELL_ARM64_FEATURE(constant, name, hwcap, bit, sysctl, processor_feature) \
    if (sysctl_flag(sysctl)) features |= (constant);
#include "cpu/features.inc"
    return features;
}

#elif defined(_WIN32)

uint32_t detect() {
    uint32_t features = 0;
#define FUSEDCELL_ARM64_FEATURE(constant, name, hwcap, bit, sysctl, processor_feature) \
    if (IsProcessorFeaturePresent(processor_feature)) features |= (constant);
#include "cpu/features.inc"
    return features;
}

#else

uint32_t detect() { return 0; }

#endif

}    // namespace

uint32_t cpu_features() {
    static const uint32_t features = detect();
    return features;
}

std::string cpu_brand() {
    std::string brand;
#if defined(__x86_64__) || defined(_M_X64)
    constexpr uint32_t kFirst = 0x80000002;    // Intel SDM volume 2A, CPUID: 16 characters a leaf, the last ones zero
    if (cpuid(0x80000000, 0).eax < kFirst + 2) return brand;
    for (uint32_t leaf = kFirst; leaf < kFirst + 3; ++leaf) {
        const CpuidResult text = cpuid(leaf, 0);
        for (const uint32_t word : {text.eax, text.ebx, text.ecx, text.edx}) {
            for (int shift = 0; shift < 32; shift += 8) brand += static_cast<char>(word >> shift & 0xff);
        }
    }
    brand.resize(std::min(brand.find('\0'), brand.size()));
#endif
    return brand;
}

std::vector<std::string> cpu_feature_names() {
    std::vector<std::string> names;
#define FUSEDCELL_FEATURE(constant, name) \
    if (cpu_features() & (constant)) names.emplace_back(#name);
#define FUSEDCELL_X86_FEATURE(constant, name, word, bit, registers) FUSEDCELL_FEATURE(constant, name)
#define FUSEDCELL_ARM64_FEATURE(constant, name, hwcap, bit, sysctl, processor_feature) FUSEDCELL_FEATURE(constant, name)
#define FUSEDCELL_ARM_FEATURE(constant, name, bit) FUSEDCELL_FEATURE(constant, name)
#include "cpu/features.inc"
    return names;
}

}    // namespace fusedcell
