#include "api/common.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>

#include "pack/sizes.h"

namespace fusedcell {
namespace {

// A path that leads nowhere, or to a folder, shows when it is opened and read.
void refuse_without_end(const std::string& path) {
    struct stat found{};
    if (stat(path.c_str(), &found) != 0) return;
    const auto kind = found.st_mode & S_IFMT;
    if (kind == S_IFREG || kind == S_IFDIR) return;
    throw LoadError(path +
                    ": expected a regular file, got a pipe, a device or a socket; write what it gives to a file first");
}

}    // namespace

std::size_t size_of(std::ptrdiff_t value) { return static_cast<std::size_t>(value); }

std::ptrdiff_t checked_count(std::size_t count, const char* name) {
    constexpr std::uint64_t kMost = std::uint64_t{1} << 31;
    if (count < 1 || count > kMost) {
        throw std::invalid_argument(std::string(name) + ": expected from 1 to 2^31, got " + std::to_string(count));
    }
    return to_size(count);
}

std::vector<unsigned char> read_file(const std::string& path) {
    refuse_without_end(path);
    const auto fail = [&](const char* what) { throw LoadError(path + ": " + what + ": " + std::strerror(errno)); };
    struct Closer {
        void operator()(std::FILE* file) const { std::fclose(file); }
    };
    const std::unique_ptr<std::FILE, Closer> file(std::fopen(path.c_str(), "rb"));
    if (!file) fail("cannot be opened");
    std::vector<unsigned char> bytes;
    constexpr std::size_t kAtOnce = std::size_t{1} << 16;
    std::size_t count = 0;
    do {
        bytes.resize(size_of(sum_of(to_size(bytes.size()), kAtOnce)));
        count = std::fread(bytes.data() + bytes.size() - kAtOnce, 1, kAtOnce, file.get());
        bytes.resize(bytes.size() - kAtOnce + count);
    } while (count == kAtOnce);
    if (std::ferror(file.get()) != 0) fail("cannot be read");
    return bytes;
}

}    // namespace fusedcell
