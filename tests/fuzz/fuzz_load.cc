// Whatever the bytes, a layer is made of them or an error is thrown; and a layer runs.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "fusedcell/fusedcell.h"

namespace {

void run(const fusedcell::Layer& layer) {
    constexpr std::size_t kSteps = 2;
    const std::vector<float> x(kSteps * layer.input_size(), 0.5F);
    std::vector<float> y(kSteps * layer.num_directions() * layer.output_size());
    try {
        layer.run(x.data(), y.data(), kSteps);
        if (layer.num_directions() == 2 || layer.reverse()) return;
        fusedcell::Stream stream(layer);
        stream.process(x.data(), y.data(), kSteps);
    } catch (const std::invalid_argument&) {    // its initial state is for another batch size
    }
}

}    // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        run(fusedcell::load(data, size));
    } catch (const fusedcell::LoadError&) {
        return 0;
    }
    return 0;
}
