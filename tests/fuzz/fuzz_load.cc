// Whatever the bytes, a layer or a whole model is made of them or an error is thrown; and what is made runs.
#include <cstdint>
#include <cstddef>
#include <stdexcept>
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

// Of so few rows that neither a call nor a stream takes long, whatever the file asks for.
void run(const fusedcell::Model& model) {
    constexpr std::size_t kSteps = 2;
    constexpr std::size_t kMostFloats = std::size_t{1} << 20;
    std::vector<std::vector<float>> x;
    const std::vector<std::int32_t> tokens(kSteps, 0);
    std::vector<fusedcell::Input> inputs;
    for (std::size_t i = 0; i < model.num_inputs(); ++i) {
        x.emplace_back(kSteps * model.input_size(i), 0.5F);
        inputs.push_back(model.tokens(i) > 0 ? fusedcell::Input(tokens.data()) : fusedcell::Input(x.back().data()));
    }
    try {
        const auto outputs_of = [&](const auto& rows_of) {
            std::vector<std::vector<float>> y;
            for (std::size_t o = 0; o < model.num_outputs(); ++o) {
                const std::size_t rows = rows_of(o);
                if (rows > kMostFloats / model.output_size(o)) throw std::invalid_argument("too many");
                y.emplace_back(rows * model.output_size(o) + 1);
            }
            return y;
        };
        const auto pointers = [](std::vector<std::vector<float>>& y) {
            std::vector<float*> data;
            for (std::vector<float>& rows : y) data.push_back(rows.data());
            return data;
        };
        std::vector<std::vector<float>> whole = outputs_of([&](std::size_t o) { return model.rows(kSteps, o); });
        model.run(inputs.data(), pointers(whole).data(), kSteps);
        if (!model.why_no_streams().empty()) return;
        fusedcell::ModelStream stream(model, 1, kSteps);
        auto rows = outputs_of([&](std::size_t o) { return stream.rows_of_process(kSteps, o); });
        stream.process(inputs.data(), kSteps, pointers(rows).data());
        auto rest = outputs_of([&](std::size_t o) { return stream.rows_of_flush(o); });
        stream.flush(pointers(rest).data());
    } catch (const std::invalid_argument&) {    // rows that do not meet, or too many of them
    }
}

}    // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        run(fusedcell::load(data, size));
    } catch (const fusedcell::LoadError&) {
    }
    try {
        run(fusedcell::load_model(data, size));
    } catch (const fusedcell::LoadError&) {
    }
    return 0;
}
