#include "cpu/cores.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>

#include "cpu/features.h"

#if defined(__linux__)
#include <sched.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace fusedcell {
namespace {

struct Id {
    uint32_t implementer = 0;
    uint32_t part = 0;
};

// Members are filled by name: most of them are numbers, and compilers mix them up without a word.
CoreKind kind_named(std::string_view name, int cpus) {
    CoreKind kind;
    kind.name = name.empty() ? "unknown" : name;
    kind.cpus = cpus;
    return kind;
}

CoreKind kind_of(Id id) {
    CoreKind kind = kind_named("", 0);
    kind.implementer = id.implementer;
    kind.part = id.part;
    if (id.implementer == 0 && id.part == 0) return kind;
    char name[64];
    std::snprintf(name, sizeof name, "implementer 0x%02x, part 0x%03x", id.implementer, id.part);
    const char* chosen = name;
#define FUSEDCELL_CORE(known_implementer, known_part, known_name, issues_in_order) \
    if (id.implementer == (known_implementer) && id.part == (known_part)) {        \
        chosen = known_name;                                                       \
        kind.in_order = issues_in_order;                                           \
    }
#include "cpu/known_cores.inc"
    kind.name = chosen;
    return kind;
}

// Arm Architecture Reference Manual, MIDR_EL1; the upper half is reserved.
Id id_of_midr(uint64_t midr) {
    return {static_cast<uint32_t>(midr >> 24) & 0xff, static_cast<uint32_t>(midr >> 4) & 0xfff};
}

// At most `most` bytes: what is longer than its kind of file ever is, is no such file.
std::string beginning_of(const std::string& path, std::size_t most) {
    std::ifstream file(path, std::ios::binary);
    std::string text(most, '\0');
    file.read(text.data(), static_cast<std::streamsize>(most));
    text.resize(static_cast<std::size_t>(file.gcount()));
    return text;
}

std::string_view trimmed(std::string_view text) {
    constexpr const char* kBlank = " \t\r\n";
    const std::size_t begin = text.find_first_not_of(kBlank);
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

// A whole number with nothing behind it, "0x" before it in base 16; nothing if it is none, or more than `most`.
std::optional<uint64_t> number_in(std::string_view text, int base, uint64_t most) {
    if (base == 16) {
        if (text.substr(0, 2) != "0x") return std::nullopt;
        text.remove_prefix(2);
    }
    const char* const begin = text.data();
    const char* const end = begin + text.size();
    uint64_t number = 0;
    const auto [stop, error] = std::from_chars(begin, end, number, base);
    if (error != std::errc() || stop != end || number > most) return std::nullopt;
    return number;
}

// Linux, Documentation/arch/arm64/cpu-feature-registers.rst: sixteen digits.
std::optional<Id> id_in_sysfs(const std::string& root, int cpu) {
    const std::string path =
        root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/regs/identification/midr_el1";
    const std::optional<uint64_t> midr = number_in(trimmed(beginning_of(path, 32)), 16, ~uint64_t{0});
    if (!midr || *midr == 0) return std::nullopt;
    return id_of_midr(*midr);
}

// The ids in /proc/cpuinfo, by CPU. A line "processor" begins a CPU; one "CPU part" ends what tells of it, or, where
// old kernels list the CPUs first, of all the CPUs since the part before.
std::vector<std::pair<int, Id>> ids_in_cpuinfo(const std::string& root) {
    constexpr std::size_t kMostBytes = std::size_t{4} << 20;
    constexpr uint64_t kMostCpus = 1 << 16;
    const std::string text = beginning_of(root + "/proc/cpuinfo", kMostBytes);
    std::vector<std::pair<int, Id>> found;
    std::size_t pending = 0;
    uint32_t implementer = 0;
    for (std::size_t begin = 0; begin < text.size() && found.size() < kMostCpus;) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        const std::string_view line(text.data() + begin, end - begin);
        begin = end + 1;
        const std::size_t colon = line.find(':');
        if (colon == std::string_view::npos) continue;
        const std::string_view name = trimmed(line.substr(0, colon));
        const std::string_view value = trimmed(line.substr(colon + 1));
        if (name == "processor") {
            if (const auto cpu = number_in(value, 10, kMostCpus)) found.emplace_back(static_cast<int>(*cpu), Id{});
        } else if (name == "CPU implementer") {
            implementer = static_cast<uint32_t>(number_in(value, 16, 0xff).value_or(0));
        } else if (name == "CPU part") {
            const auto part = static_cast<uint32_t>(number_in(value, 16, 0xfff).value_or(0));
            for (; pending < found.size(); ++pending) found[pending].second = {implementer, part};
            implementer = 0;
        }
    }
    return found;
}

void add(std::vector<CoreKind>& kinds, Id id, int cpu) {
    auto same = std::find_if(kinds.begin(), kinds.end(), [id](const CoreKind& kind) {
        return kind.implementer == id.implementer && kind.part == id.part;
    });
    if (same == kinds.end()) same = kinds.insert(kinds.end(), kind_of(id));
    ++same->cpus;
    same->numbers.push_back(cpu);
}

int cpus_of_machine() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

#if defined(__linux__)

std::vector<int> cpus_of_mask() {
    std::vector<int> numbers;
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
        for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
            if (CPU_ISSET(cpu, &mask)) numbers.push_back(cpu);
        }
    }
    // A mask of more CPUs than fit the set.
    for (int cpu = 0, all = numbers.empty() ? cpus_of_machine() : 0; cpu < all; ++cpu) numbers.push_back(cpu);
    return numbers;
}

#endif

#if defined(__aarch64__) && defined(__linux__)

std::vector<CoreKind> detect() {
    std::vector<CoreKind> kinds = read_core_kinds("", cpus_of_mask());
    const bool known = kinds.size() > 1 || kinds.front().implementer != 0;
    // Where /sys and /proc are another machine's or are not there, as under an emulator or in a sandbox, the core that
    // this runs on stands for all. Linux, Documentation/arch/arm64/cpu-feature-registers.rst: the kernel answers.
    if (!known && ((getauxval(AT_HWCAP) >> 11) & 1U)) {    // HWCAP_CPUID
        uint64_t midr = 0;
        __asm__("mrs %0, midr_el1" : "=r"(midr));
        CoreKind kind = kind_of(id_of_midr(midr));
        kind.cpus = kinds.front().cpus;
        kind.numbers = kinds.front().numbers;
        kinds.front() = kind;
    }
    return kinds;
}

#elif defined(__APPLE__) && defined(__aarch64__)

std::string sysctl_text(const std::string& name) {
    char text[64] = {};
    std::size_t size = sizeof text - 1;
    return sysctlbyname(name.c_str(), text, &size, nullptr, 0) == 0 ? text : "";
}

int sysctl_int(const std::string& name) {
    int value = 0;
    std::size_t size = sizeof value;
    return sysctlbyname(name.c_str(), &value, &size, nullptr, 0) == 0 ? value : 0;
}

std::vector<CoreKind> detect() {
    std::vector<CoreKind> kinds;
    const std::string chip = sysctl_text("machdep.cpu.brand_string");
    for (int level = 0; level < sysctl_int("hw.nperflevels"); ++level) {
        const std::string prefix = "hw.perflevel" + std::to_string(level) + ".";
        const std::string text = chip + " " + sysctl_text(prefix + "name");
        const std::string name(trimmed(text));
        const int cpus = sysctl_int(prefix + "logicalcpu");
        if (cpus > 0) kinds.push_back(kind_named(name, cpus));
    }
    if (kinds.empty()) kinds.push_back(kind_named("", cpus_of_machine()));
    return kinds;
}

#elif defined(__arm__) && defined(__linux__)

std::vector<CoreKind> detect() { return read_core_kinds("", cpus_of_mask()); }

#else

std::vector<CoreKind> detect() {
    const std::string brand = cpu_brand();
    CoreKind kind = kind_named(trimmed(brand), cpus_of_machine());
#if defined(__linux__)
    kind.numbers = cpus_of_mask();
    kind.cpus = static_cast<int>(kind.numbers.size());
#endif
    return {kind};
}

#endif

}    // namespace

std::vector<CoreKind> read_core_kinds(const std::string& root, const std::vector<int>& numbers) {
    std::vector<CoreKind> kinds;
    std::optional<std::vector<std::pair<int, Id>>> cpuinfo;
    for (const int cpu : numbers) {
        std::optional<Id> id = id_in_sysfs(root, cpu);
        if (!id) {
            if (!cpuinfo) cpuinfo = ids_in_cpuinfo(root);
            const auto same =
                std::find_if(cpuinfo->begin(), cpuinfo->end(), [cpu](const auto& entry) { return entry.first == cpu; });
            if (same != cpuinfo->end()) id = same->second;
        }
        add(kinds, id.value_or(Id{}), cpu);
    }
    return kinds;
}

const std::vector<CoreKind>& core_kinds() {
    // Without a lock, which a child of fork() would find held by a thread that it does not have. What loses a race
    // goes.
    static std::atomic<const std::vector<CoreKind>*> known{nullptr};
    const std::vector<CoreKind>* kinds = known.load(std::memory_order_acquire);
    if (kinds == nullptr) {
        const auto* found = new std::vector<CoreKind>(detect());
        if (known.compare_exchange_strong(kinds, found, std::memory_order_acq_rel)) {
            kinds = found;
        } else {
            delete found;
        }
    }
    return *kinds;
}

}    // namespace fusedcell
