// The example's network on a device, without Python: the recurrent layers from a file of fusedcell.save, scaling and
// head from a file of raw float32 (mean, std, head, bias), sensors from another, (flights, sensors), and a probability
// a flight, as raw float32, to a fourth. ROUNDS goes over the sensors so many times, to count instructions of.
//
//     edge LAYER HEAD SENSORS ANSWER [ROUNDS]
#include <fusedcell/fusedcell.h>

#include <cmath>
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

// All memory is there before the first flight.
class Watch {
public:
    Watch(const fusedcell::Layer& layer, const std::vector<float>& head)
        : stream_(layer),
          inputs_(layer.input_size()),
          units_(layer.output_size()),
          head_(head),
          x_(inputs_),
          y_(units_) {
        if (head_.size() != 2 * inputs_ + units_ + 1) throw std::runtime_error("the head is not this layer's");
    }

    float operator()(const float* sensors) noexcept {
        const float* mean = head_.data();
        const float* std = mean + inputs_;
        for (std::size_t i = 0; i < inputs_; ++i) x_[i] = (sensors[i] - mean[i]) / std[i];
        stream_.step(x_.data(), y_.data());
        const float* weights = std + inputs_;
        float logit = weights[units_];
        for (std::size_t i = 0; i < units_; ++i) logit += weights[i] * y_[i];
        return 1.0F / (1.0F + std::exp(-logit));
    }

private:
    fusedcell::Stream stream_;
    std::size_t inputs_;
    std::size_t units_;
    std::vector<float> head_;
    std::vector<float> x_;
    std::vector<float> y_;
};

}    // namespace

int main(int argc, char** argv) try {
    if (argc != 5 && argc != 6) {
        std::fprintf(stderr, "usage: %s LAYER HEAD SENSORS ANSWER [ROUNDS]\n", argv[0]);
        return 2;
    }
    const std::vector<float> sensors = read_floats(argv[3]);
    const std::vector<float> head = read_floats(argv[2]);
    const fusedcell::Layer layer = fusedcell::load(argv[1]);
    Watch watch(layer, head);
    const std::size_t flights = sensors.size() / layer.input_size();
    std::vector<float> probabilities(flights);
    for (long round = argc == 6 ? std::atol(argv[5]) : 1; round > 0; --round) {
        for (std::size_t n = 0; n < flights; ++n) probabilities[n] = watch(&sensors[n * layer.input_size()]);
    }
    const File answer = open(argv[4], "wb");
    if (std::fwrite(probabilities.data(), sizeof(float), flights, answer.get()) != flights) {
        throw std::runtime_error(std::string("cannot write ") + argv[4]);
    }
    std::printf("isa %s\nweights %zu bytes\n", layer.isa(), layer.nbytes());
#if defined(__GLIBC__)
    const auto heap = mallinfo2();
    std::printf("heap %zu bytes\n", heap.arena + heap.hblkhd);    // all that was ever asked of the system
#endif
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
