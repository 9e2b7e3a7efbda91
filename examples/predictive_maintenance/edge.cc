// The example's model on a device, without Python: from a file of fusedcell.save; sensors from another, raw float32
// (flights, sensors), and a probability a flight, as raw float32, to a third. ROUNDS goes over the sensors so many
// times, to count instructions of.
//
//     edge MODEL SENSORS ANSWER [ROUNDS]
#include <fusedcell/fusedcell.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace {

struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Closer>;

File open(const char* path, const char* mode) {
    File file(std::fopen(path, mode));
    if (!file) throw std::runtime_error(std::string("cannot open ") + path);
    return file;
}

std::vector<float> read_floats(const char* path) {
    const File file = open(path, "rb");
    std::vector<float> floats;
    for (float value = 0.0F; std::fread(&value, sizeof value, 1, file.get()) == 1;) floats.push_back(value);
    return floats;
}

}    // namespace

int main(int argc, char** argv) try {
    if (argc != 4 && argc != 5) {
        std::fprintf(stderr, "usage: %s MODEL SENSORS ANSWER [ROUNDS]\n", argv[0]);
        return 2;
    }
    const std::vector<float> sensors = read_floats(argv[2]);
    const fusedcell::Model model = fusedcell::load_model(argv[1]);
    fusedcell::ModelStream stream(model);    // all memory is there before the first flight
    const std::size_t inputs = model.input_size();
    const std::size_t flights = sensors.size() / inputs;
    std::vector<float> probabilities(flights * model.output_size());
    for (long round = argc == 5 ? std::atol(argv[4]) : 1; round > 0; --round) {
        for (std::size_t n = 0; n < flights; ++n) {
            stream.process(&sensors[n * inputs], 1, &probabilities[n * model.output_size()]);
        }
    }
    const File answer = open(argv[3], "wb");
    if (std::fwrite(probabilities.data(), sizeof(float), probabilities.size(), answer.get()) != probabilities.size()) {
        throw std::runtime_error(std::string("cannot write ") + argv[3]);
    }
    std::printf("isa %s\nweights %zu bytes\n", model.isa(), model.nbytes());
#if defined(__GLIBC__)
    const auto heap = mallinfo2();
    std::printf("heap %zu bytes\n", heap.arena + heap.hblkhd);    // all that was ever asked of the system
#endif
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
