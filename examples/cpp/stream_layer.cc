// Runs a layer over a signal, one time step at a time, as an audio callback would: the layer from a file that Python's
// fusedcell.save wrote, the signal from a file of raw float32, (steps, input_size), and the answer to another such
// file.
//
//     stream_layer LAYER SIGNAL ANSWER
#include <fusedcell/fusedcell.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <vector>

namespace {

// What a plugin keeps: all memory is there before the first sample.
class Processor {
public:
    explicit Processor(const char* path) : stream_(fusedcell::load(path)) {}

    const fusedcell::Layer& layer() const { return stream_.layer(); }

    // In the real-time thread: no allocation, no lock, no system call, no exception.
    void process(const float* x, float* y) noexcept { stream_.step(x, y); }

private:
    fusedcell::Stream stream_;
};

std::vector<float> read_floats(const char* path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(std::string("cannot open ") + path);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
    std::vector<float> floats(bytes.size() / sizeof(float));
    for (std::size_t i = 0; i < floats.size() * sizeof(float); ++i)
        reinterpret_cast<char*>(floats.data())[i] = bytes[i];
    return floats;
}

}    // namespace

int main(int argc, char** argv) try {
    if (argc != 4) {
        std::fprintf(stderr, "usage: %s LAYER SIGNAL ANSWER\n", argv[0]);
        return 2;
    }
    Processor processor(argv[1]);
    const fusedcell::Layer& layer = processor.layer();
    const std::vector<float> x = read_floats(argv[2]);
    const std::size_t steps = x.size() / layer.input_size();
    std::vector<float> y(steps * layer.output_size());
    for (std::size_t t = 0; t < steps; ++t) {
        processor.process(&x[t * layer.input_size()], &y[t * layer.output_size()]);
    }
    std::ofstream answer(argv[3], std::ios::binary);
    answer.write(reinterpret_cast<const char*>(y.data()), static_cast<std::streamsize>(y.size() * sizeof(float)));
    if (!answer.flush()) throw std::runtime_error(std::string("cannot write ") + argv[3]);
    std::printf("fusedcell %s, %s, %s: %zu steps of %zu inputs and %zu outputs\n", fusedcell::version(), layer.isa(),
                layer.dtype(), steps, layer.input_size(), layer.output_size());
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
