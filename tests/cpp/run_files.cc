// Loads and runs layers for tests/test_cpp_library.py, which asks for one a line on standard input,
//
//     FILE <tab> ISA <tab> STEPS <tab> BATCH <tab> X <tab> RESULTS
//
// where X holds floats in the layer's own arrangement, taken again from the first when they run out. RESULTS gets y of
// Layer::run, and for a layer that has streams y, h and c of a Stream step by step, and y of one that takes blocks, all
// arranged as x is. BATCH is followed by "m" for a whole model, whose inputs follow each other in X: RESULTS gets all
// outputs of Model::run, and of a ModelStream that takes everything in blocks, then what its flush() gives. The answer
// is a line, "ok", or an exception's class and its text, in hexadecimal as it may quote whatever is in a file. Asked
// for
// --isas, it lists the tiers instead.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "fusedcell/fusedcell.h"

namespace {

using Floats = std::vector<float>;

struct Request {
    std::string file, isa, x, results;
    std::size_t steps = 0;
    std::size_t batch = 0;
    bool is_model = false;

    explicit Request(const std::string& line) {
        std::istringstream fields(line);
        std::string number;
        const auto next = [&](std::string& field) { std::getline(fields, field, '\t'); };
        next(file);
        next(isa);
        next(number);
        steps = std::stoul(number);
        next(number);
        batch = std::stoul(number);
        is_model = number.back() == 'm';
        next(x);
        next(results);
    }
};

Floats read_floats(const std::string& path, std::size_t count) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    Floats floats(count);
    char* destination = reinterpret_cast<char*>(floats.data());
    for (std::size_t i = 0; i < count * sizeof(float); ++i) destination[i] = bytes[i % bytes.size()];
    return floats;
}

void write_floats(std::ofstream& file, const float* floats, std::size_t count) {
    file.write(reinterpret_cast<const char*>(floats), static_cast<std::streamsize>(count * sizeof(float)));
}

void run(const Request& request) {
    const fusedcell::Layer layer = fusedcell::load(request.file, request.isa);
    const std::size_t states = layer.num_layers() * layer.num_directions() * request.batch;
    const std::size_t y_row = request.batch * layer.num_directions() * layer.output_size();
    const std::size_t x_row = request.batch * layer.input_size();
    const Floats x = read_floats(request.x, request.steps * x_row);
    Floats y(request.steps * y_row);
    std::ofstream results(request.results, std::ios::binary);
    layer.run(x.data(), y.data(), request.steps, request.batch);
    write_floats(results, y.data(), y.size());
    if (layer.num_directions() == 2 || layer.reverse()) return;

    fusedcell::Stream stream(layer, request.batch);
    Floats x_t(x_row);
    Floats y_t(y_row);
    for (std::size_t t = 0; t < request.steps; ++t) {
        const auto row = [&](std::size_t b) {
            return layer.batch_first() ? b * request.steps + t : t * request.batch + b;
        };
        const auto copy = [](const Floats& from, std::size_t from_row, Floats& to, std::size_t to_row,
                             std::size_t size) { std::copy_n(&from[from_row * size], size, &to[to_row * size]); };
        for (std::size_t b = 0; b < request.batch; ++b) copy(x, row(b), x_t, b, layer.input_size());
        stream.step(x_t.data(), y_t.data());
        for (std::size_t b = 0; b < request.batch; ++b) copy(y_t, b, y, row(b), layer.output_size());
    }
    write_floats(results, y.data(), y.size());
    write_floats(results, stream.h(), states * layer.output_size());
    if (layer.has_cell_state()) write_floats(results, stream.c(), states * layer.hidden_size());
    fusedcell::Stream blocks(layer, request.batch, 3);
    blocks.process(x.data(), y.data(), request.steps);
    write_floats(results, y.data(), y.size());
}

void run_model(const Request& request) {
    const fusedcell::Model model = fusedcell::load_model(request.file, request.isa);
    const std::size_t rows = request.steps * request.batch;
    std::size_t all = 0;
    for (std::size_t i = 0; i < model.num_inputs(); ++i) all += rows * model.input_size(i);
    const Floats x = read_floats(request.x, all);
    std::vector<std::vector<std::int32_t>> tokens(model.num_inputs());
    std::vector<fusedcell::Input> inputs;
    const float* from = x.data();
    for (std::size_t i = 0; i < model.num_inputs(); ++i) {
        const std::size_t size = rows * model.input_size(i);
        if (model.tokens(i) > 0) tokens[i].assign(from, from + size);
        inputs.push_back(model.tokens(i) > 0 ? fusedcell::Input(tokens[i].data()) : fusedcell::Input(from));
        from += size;
    }
    std::ofstream results(request.results, std::ios::binary);
    const auto answer = [&](const auto& rows_of, const auto& call) {
        std::vector<Floats> y;
        std::vector<float*> outputs;
        for (std::size_t o = 0; o < model.num_outputs(); ++o) {
            y.emplace_back(rows_of(o) * request.batch * model.output_size(o));
            outputs.push_back(y.back().data());
        }
        call(outputs.data());
        for (const Floats& output : y) write_floats(results, output.data(), output.size());
    };
    answer([&](std::size_t o) { return model.rows(request.steps, o); },
           [&](float* const* y) { model.run(inputs.data(), y, request.steps, request.batch); });
    if (!model.why_no_streams().empty()) return;
    fusedcell::ModelStream stream(model, request.batch, 2);
    answer([&](std::size_t o) { return stream.rows_of_process(request.steps, o); },
           [&](float* const* y) { stream.process(inputs.data(), request.steps, y); });
    answer([&](std::size_t o) { return stream.rows_of_flush(o); }, [&](float* const* y) { stream.flush(y); });
}

std::string answer(const std::string& line) {
    const auto text = [](const char* name, const std::exception& error) {
        std::string result = std::string(name) + " ";
        for (const char* c = error.what(); *c != '\0'; ++c) {
            constexpr const char* kDigits = "0123456789abcdef";
            const auto byte = static_cast<unsigned char>(*c);
            result += {kDigits[byte / 16], kDigits[byte % 16]};
        }
        return result;
    };
    try {
        const Request request(line);
        request.is_model ? run_model(request) : run(request);
        return "ok";
    } catch (const fusedcell::UnsupportedError& error) {
        return text("UnsupportedError", error);
    } catch (const fusedcell::LoadError& error) {
        return text("LoadError", error);
    } catch (const std::invalid_argument& error) {
        return text("invalid_argument", error);
    }
}

}    // namespace

int main(int argc, char** argv) {
    if (argc == 2 && std::string(argv[1]) == "--isas") {
        for (const std::string& isa : fusedcell::isas()) std::cout << isa << '\n';
        return 0;
    }
    for (std::string line; std::getline(std::cin, line);) std::cout << answer(line) << std::endl;
    return 0;
}
