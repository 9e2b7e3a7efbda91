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

// Bit positions: Intel SDM volume 2A, CPUID; volume 1, 13.3 (XCR0).
uint32_t detect() {
    const uint32_t max_leaf = cpuid(0, 0).eax;
    if (max_leaf < 7) return 0;
    const CpuidResult leaf1 = cpuid(1, 0);
    const bool os_uses_xsave = bit(leaf1.ecx, 27);
    if (!os_uses_xsave) return 0;
    const uint64_t state = enabled_state();
    const bool os_saves_ymm = (state & 0x06) == 0x06;
    const bool os_saves_zmm = (state & 0xe6) == 0xe6;
    if (!os_saves_ymm) return 0;

    uint32_t features = 0;
    const auto add = [&features](bool present, Feature feature) {
        if (present) features |= feature;
    };
    const CpuidResult leaf7 = cpuid(7, 0);
    add(bit(leaf1.ecx, 12), kFma);
    add(bit(leaf1.ecx, 29), kF16c);
    add(bit(leaf7.ebx, 5), kAvx2);
    const uint32_t max_subleaf = leaf7.eax;
    if (max_subleaf >= 1) add(bit(cpuid(7, 1).eax, 4), kAvxVnni);
    if (os_saves_zmm) {
        add(bit(leaf7.ebx, 16), kAvx512F);
        add(bit(leaf7.ebx, 17), kAvx512Dq);
        add(bit(leaf7.ebx, 30), kAvx512Bw);
        add(bit(leaf7.ebx, 31), kAvx512Vl);
        add(bit(leaf7.ecx, 11), kAvx512Vnni);
    }
    return features;
}

#elif defined(__linux__) && defined(__arm__)

// Bit positions: Linux, arch/arm/include/uapi/asm/hwcap.h; a 64-bit kernel tells 32-bit programs the same.
uint32_t detect() {
    uint32_t features = 0;
    if ((getauxval(AT_HWCAP) >> 12) & 1U) features |= kNeon;     // HWCAP_NEON
    if ((getauxval(AT_HWCAP) >> 16) & 1U) features |= kVfpv4;    // HWCAP_VFPv4
    return features;
}

#elif defined(__linux__)

// Bit positions: Linux, arch/arm64/include/uapi/asm/hwcap.h.
uint32_t detect() {
    uint32_t features = 0;
    if ((getauxval(AT_HWCAP) >> 20) & 1U) features |= kDotProd;    // HWCAP_ASIMDDP
    if ((getauxval(AT_HWCAP2) >> 13) & 1U) features |= kI8mm;      // HWCAP2_I8MM
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
    if (sysctl_flag("hw.optional.arm.FEAT_DotProd")) features |= kDotProd;
    if (sysctl_flag("hw.optional.arm.FEAT_I8MM")) features |= kI8mm;
    return features;
}

#elif defined(_WIN32)

uint32_t detect() {
    constexpr DWORD kArmV82DotProduct = 43;    // PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE
    constexpr DWORD kArmV82I8mm = 66;          // PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE
    uint32_t features = 0;
    if (IsProcessorFeaturePresent(kArmV82DotProduct)) features |= kDotProd;
    if (IsProcessorFeaturePresent(kArmV82I8mm)) features |= kI8mm;
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
    constexpr struct {
        Feature feature;
        const char* name;
    } kNames[] = {
        {kAvx2, "avx2"},         {kFma, "fma"},           {kF16c, "f16c"},
        {kAvxVnni, "avxvnni"},   {kAvx512F, "avx512f"},   {kAvx512Bw, "avx512bw"},
        {kAvx512Dq, "avx512dq"}, {kAvx512Vl, "avx512vl"}, {kAvx512Vnni, "avx512vnni"},
        {kDotProd, "dotprod"},   {kI8mm, "i8mm"},         {kNeon, "neon"},
        {kVfpv4, "vfpv4"},
    };
    std::vector<std::string> names;
    for (const auto& entry : kNames) {
        if (cpu_features() & entry.feature) names.emplace_back(entry.name);
    }
    return names;
}

}    // namespace fusedcell
