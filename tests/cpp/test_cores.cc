// Kinds of cores, from files as kernels write them, and from files that no kernel would write.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <thread>

#include "check.h"
#include "cpu/available.h"
#include "cpu/cores.h"

namespace fusedcell::test {
namespace {

namespace fs = std::filesystem;

// A folder with files of /sys and /proc in it, which goes with this.
class Root {
public:
    Root()
        : path_(fs::temp_directory_path() / ("fusedcell_cores_" + std::to_string(reinterpret_cast<uintptr_t>(this)))) {
        fs::remove_all(path_);
        fs::create_directories(path_ / "proc");
    }
    ~Root() { fs::remove_all(path_); }
    Root(const Root&) = delete;
    Root& operator=(const Root&) = delete;

    Root& midr(int cpu, const std::string& text) {
        const fs::path folder =
            path_ / "sys/devices/system/cpu" / ("cpu" + std::to_string(cpu)) / "regs/identification";
        fs::create_directories(folder);
        std::ofstream(folder / "midr_el1", std::ios::binary) << text;
        return *this;
    }

    Root& cpuinfo(const std::string& text) {
        std::ofstream(path_ / "proc/cpuinfo", std::ios::binary) << text;
        return *this;
    }

    std::vector<CoreKind> kinds(int cpus) const {
        std::vector<int> numbers(static_cast<std::size_t>(cpus));
        std::iota(numbers.begin(), numbers.end(), 0);
        return kinds(numbers);
    }

    std::vector<CoreKind> kinds(const std::vector<int>& numbers) const {
        return read_core_kinds(path_.string(), numbers);
    }

private:
    fs::path path_;
};

void check_kind(const CoreKind& kind, const std::string& name, bool in_order, const std::vector<int>& numbers) {
    CHECK(kind.name == name);
    CHECK(kind.in_order == in_order);
    CHECK(kind.numbers == numbers);
    CHECK(kind.cpus == static_cast<int>(numbers.size()));
}

void check_unknown(const std::vector<CoreKind>& kinds, const std::vector<int>& numbers) {
    CHECK(kinds.size() == 1);
    check_kind(kinds[0], "unknown", false, numbers);
    CHECK(kinds[0].implementer == 0 && kinds[0].part == 0);
}

// A Raspberry Pi 3's MIDR_EL1, r0p4.
void four_cores_of_one_kind() {
    Root root;
    for (int cpu = 0; cpu < 4; ++cpu) root.midr(cpu, "0x00000000410fd034\n");
    const auto kinds = root.kinds(4);
    CHECK(kinds.size() == 1);
    check_kind(kinds[0], "Cortex-A53", true, {0, 1, 2, 3});
    CHECK(kinds[0].implementer == 0x41 && kinds[0].part == 0xd03);
}

// A Rockchip RK3588's.
void little_and_big_cores() {
    Root root;
    for (int cpu = 0; cpu < 4; ++cpu) root.midr(cpu, "0x00000000412fd050\n");
    for (int cpu = 4; cpu < 8; ++cpu) root.midr(cpu, "0x00000000414fd0b0\n");
    const auto kinds = root.kinds(8);
    CHECK(kinds.size() == 2);
    check_kind(kinds[0], "Cortex-A55", true, {0, 1, 2, 3});
    check_kind(kinds[1], "Cortex-A76", false, {4, 5, 6, 7});
}

void only_the_cpus_that_were_asked_for_count() {
    Root root;
    for (int cpu = 0; cpu < 4; ++cpu) root.midr(cpu, "0x00000000412fd050\n");
    for (int cpu = 4; cpu < 8; ++cpu) root.midr(cpu, "0x00000000414fd0b0\n");
    const auto big = root.kinds(std::vector<int>{5, 7});
    CHECK(big.size() == 1);
    check_kind(big[0], "Cortex-A76", false, {5, 7});
    CHECK(root.kinds(std::vector<int>{}).empty());
}

// Steppings are one kind, and a part number of another maker is another kind.
void makers_and_parts_tell_kinds_apart() {
    Root root;
    root.midr(0, "0x00000000410fd0c0\n").midr(1, "0x00000000413fd0c1\n").midr(2, "0x00000000480fd010\n");
    root.midr(3, "0x00000000c00fac30\n").midr(4, "0x000000004e0f0040\n").midr(5, "0x00000000510f8050\n");
    const auto kinds = root.kinds(6);
    CHECK(kinds.size() == 5);
    check_kind(kinds[0], "Neoverse-N1", false, {0, 1});
    check_kind(kinds[1], "TaiShan v110", false, {2});
    check_kind(kinds[2], "Ampere-1", false, {3});
    check_kind(kinds[3], "Carmel", false, {4});
    check_kind(kinds[4], "Kryo 4xx Silver", true, {5});
}

void a_core_that_is_not_known_is_named_by_its_numbers() {
    Root root;
    root.midr(0, "0x00000000990f1230\n").midr(1, "0x00000000410fe000\n");
    const auto kinds = root.kinds(2);
    CHECK(kinds.size() == 2);
    check_kind(kinds[0], "implementer 0x99, part 0x123", false, {0});
    check_kind(kinds[1], "implementer 0x41, part 0xe00", false, {1});
}

std::string block(int cpu, const std::string& implementer, const std::string& part) {
    return "processor\t: " + std::to_string(cpu) + "\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd crc32\n" +
           "CPU implementer\t: " + implementer + "\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: " + part +
           "\nCPU revision\t: 3\n\n";
}

void cpuinfo_tells_where_sysfs_does_not() {
    Root root;
    root.cpuinfo(block(0, "0x41", "0xd03") + block(1, "0x41", "0xd03") + block(2, "0x41", "0xd08"));
    root.midr(2, "0x00000000410fd090\n");
    const auto kinds = root.kinds(3);
    CHECK(kinds.size() == 2);
    check_kind(kinds[0], "Cortex-A53", true, {0, 1});
    check_kind(kinds[1], "Cortex-A73", false, {2});
}

void cpuinfo_of_old_kernels_describes_all_cpus_at_the_end() {
    Root root;
    root.cpuinfo(
        "Processor\t: AArch64 Processor rev 4 (aarch64)\nprocessor\t: 0\nprocessor\t: 1\nFeatures\t: fp asimd\n"
        "CPU implementer\t: 0x41\nCPU architecture: AArch64\nCPU variant\t: 0x0\nCPU part\t: 0xd03\n");
    const auto kinds = root.kinds(2);
    CHECK(kinds.size() == 1);
    check_kind(kinds[0], "Cortex-A53", true, {0, 1});
}

// As under an emulator in user mode, which shows the host's.
void another_machines_cpuinfo_tells_nothing() {
    Root root;
    root.cpuinfo(
        "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\n");
    check_unknown(root.kinds(2), {0, 1});
}

void no_files_tell_nothing() {
    const Root root;
    check_unknown(root.kinds(2), {0, 1});
}

void what_is_no_register_tells_nothing() {
    const std::string contents[] = {"",
                                    "\n",
                                    "0x",
                                    "0x0\n",
                                    "410fd034\n",
                                    "0x410fd03g\n",
                                    "-0x410fd034\n",
                                    "0x00000000410fd034 0x00000000410fd034\n",
                                    "0x100000000410fd0341\n",
                                    std::string("0x410f\0d034", 11),
                                    std::string(1000, '0'),
                                    std::string(std::size_t{1} << 20, 'f')};
    for (const std::string& content : contents) {
        Root root;
        check_unknown(root.midr(0, content).kinds(1), {0});
    }
}

void what_is_no_cpuinfo_tells_nothing() {
    const std::string contents[] = {"CPU part\t: 0xd03\n",
                                    "processor\nCPU implementer\nCPU part\n",
                                    ":\n:::\n\n\t:\t\n",
                                    block(0, "", ""),
                                    block(0, "65", "3331"),
                                    block(0, "0x100", "0x1000"),
                                    block(0, "0x41414141414141414141", "0xd03d03d03d03d03d03d03"),
                                    "processor\t: 99999999999999999999\nCPU implementer\t: 0x41\nCPU part\t: 0xd03\n",
                                    "processor\t: -1\nCPU implementer\t: 0x41\nCPU part\t: 0xd03\n",
                                    std::string(100, '\0'),
                                    std::string(std::size_t{8} << 20, 'p')};
    for (const std::string& content : contents) {
        Root root;
        check_unknown(root.cpuinfo(content).kinds(1), {0});
    }
}

void a_huge_cpuinfo_is_read_from_its_beginning() {
    std::string text = block(0, "0x41", "0xd0b");
    while (text.size() < std::size_t{6} << 20) text += "processor\t: 7\nCPU implementer\t: 0x41\nCPU part\t: 0xd03\n";
    text += block(1, "0x41", "0xd0b");
    Root root;
    const auto kinds = root.cpuinfo(text).kinds(2);
    CHECK(kinds.size() == 2);
    check_kind(kinds[0], "Cortex-A76", false, {0});
    check_kind(kinds[1], "unknown", false, {1});
}

void this_machine_has_as_many_as_its_mask() {
    const auto& kinds = core_kinds();
    CHECK(!kinds.empty());
    int cpus = 0;
    for (const CoreKind& kind : kinds) {
        CHECK(!kind.name.empty());
        CHECK(kind.cpus >= 1);
        CHECK(kind.numbers.empty() || static_cast<int>(kind.numbers.size()) == kind.cpus);
        cpus += kind.cpus;
    }
    // The control group's quota may cut the other.
    CHECK(cpus >= available_cpus());
    CHECK(&kinds == &core_kinds());
}

// Nobody waits for another, and all are given the same.
void threads_that_ask_at_once_get_the_same() {
    std::vector<const std::vector<CoreKind>*> found(4);
    std::vector<std::thread> threads;
    for (auto& one : found) threads.emplace_back([&one] { one = &core_kinds(); });
    for (std::thread& thread : threads) thread.join();
    CHECK(std::all_of(found.begin(), found.end(), [&found](const auto* one) { return one == found[0]; }));
}

}    // namespace
}    // namespace fusedcell::test

int main() {
    using namespace fusedcell::test;
    threads_that_ask_at_once_get_the_same();
    four_cores_of_one_kind();
    little_and_big_cores();
    only_the_cpus_that_were_asked_for_count();
    makers_and_parts_tell_kinds_apart();
    a_core_that_is_not_known_is_named_by_its_numbers();
    cpuinfo_tells_where_sysfs_does_not();
    cpuinfo_of_old_kernels_describes_all_cpus_at_the_end();
    another_machines_cpuinfo_tells_nothing();
    no_files_tell_nothing();
    what_is_no_register_tells_nothing();
    what_is_no_cpuinfo_tells_nothing();
    a_huge_cpuinfo_is_read_from_its_beginning();
    this_machine_has_as_many_as_its_mask();
}
