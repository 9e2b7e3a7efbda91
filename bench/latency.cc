// Latency without Python: microseconds a step takes, or steps to count the instructions of.
#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cpu/dispatch.h"
#include "model/stream.h"
#include "testing/random_stack.h"

namespace fusedcell {
namespace {

constexpr const char* kUsage = R"(fusedcell_latency [OPTION VALUE]...

  --cell NAME          lstm, gru, gru_reset_before or rnn (lstm)
  --hidden N[,N...]    hidden sizes (32,64,128,256)
  --input N            input size (the hidden size)
  --dtype NAME         of the weights: float32, bfloat16, float16 or int8 (float32)
  --isa NAME           tier (FUSEDCELL_ISA, or the best of this CPU)
  --mode NAME          step: one step a call; sequence: 32 steps a call (step)
  --batch N            rows (1)
  --steps N            steps to time for each size (20000)
  --count-steps N      run N steps of each size and print nothing
  --compiler           print what compiled this
)";

constexpr std::ptrdiff_t kSequenceSteps = 32;
constexpr std::ptrdiff_t kDistinctInputs = 8;

constexpr std::array<std::pair<const char*, CellKind>, 4> kCells = {{{"lstm", CellKind::kLstm},
                                                                     {"gru", CellKind::kGruResetAfter},
                                                                     {"gru_reset_before", CellKind::kGruResetBefore},
                                                                     {"rnn", CellKind::kRnnTanh}}};

constexpr std::array kTypes = {
#define FUSEDCELL_WEIGHT_TYPE(name, Weights) std::pair<const char*, WeightType>{#name, WeightType::name},
#include "kernels/weight_types.inc"
};

constexpr std::array<std::pair<const char*, std::ptrdiff_t>, 2> kModes = {{{"step", 1}, {"sequence", kSequenceSteps}}};

struct Options {
    CellKind cell = CellKind::kLstm;
    std::vector<std::ptrdiff_t> hidden = {32, 64, 128, 256};
    std::ptrdiff_t input = 0;
    WeightType type = WeightType::float32;
    std::string isa;
    std::ptrdiff_t call_steps = 1;
    std::ptrdiff_t batch = 1;
    std::ptrdiff_t steps = 20000;
    bool count = false;
};

[[noreturn]] void reject(const std::string& option, const std::string& expected, const std::string& value) {
    throw std::invalid_argument(option + ": expected " + expected + ", got '" + value + "'");
}

template <class T, std::size_t n>
T one_of(const std::array<std::pair<const char*, T>, n>& choices, const std::string& option, const std::string& value) {
    std::string names;
    for (const auto& [name, choice] : choices) {
        if (value == name) return choice;
        names += (names.empty() ? "" : ", ") + std::string(name);
    }
    reject(option, "one of " + names, value);
}

std::ptrdiff_t positive(const std::string& option, const std::string& value) {
    std::ptrdiff_t number = 0;
    const char* end = value.data() + value.size();
    const auto [stop, error] = std::from_chars(value.data(), end, number);
    if (error != std::errc() || stop != end || number < 1) reject(option, "a positive integer", value);
    return number;
}

std::vector<std::ptrdiff_t> positives(const std::string& option, const std::string& value) {
    std::vector<std::ptrdiff_t> numbers;
    for (std::size_t begin = 0; begin <= value.size();) {
        const std::size_t end = std::min(value.find(',', begin), value.size());
        numbers.push_back(positive(option, value.substr(begin, end - begin)));
        begin = end + 1;
    }
    return numbers;
}

Options parse(const std::vector<std::string>& arguments) {
    Options options;
    std::string steps_option = "--steps";
    for (std::size_t i = 0; i < arguments.size(); i += 2) {
        const std::string& option = arguments[i];
        const auto value = [&]() -> const std::string& {
            if (i + 1 == arguments.size()) throw std::invalid_argument(option + ": expected a value");
            return arguments[i + 1];
        };
        if (option == "--cell") {
            options.cell = one_of(kCells, option, value());
        } else if (option == "--hidden") {
            options.hidden = positives(option, value());
        } else if (option == "--input") {
            options.input = positive(option, value());
        } else if (option == "--dtype") {
            options.type = one_of(kTypes, option, value());
        } else if (option == "--isa") {
            options.isa = value();
        } else if (option == "--mode") {
            options.call_steps = one_of(kModes, option, value());
        } else if (option == "--batch") {
            options.batch = positive(option, value());
        } else if (option == "--steps" || option == "--count-steps") {
            options.steps = positive(option, value());
            options.count = option == "--count-steps";
            steps_option = option;
        } else {
            throw std::invalid_argument(option + ": no such option; --help lists them");
        }
    }
    if (options.steps % options.call_steps != 0) {
        reject(steps_option, "a multiple of " + std::to_string(options.call_steps), std::to_string(options.steps));
    }
    return options;
}

// A stream that goes on from call to call, so that no call can start before the last one has ended.
class Runner {
public:
    Runner(const Options& options, std::ptrdiff_t hidden, const KernelTable& tier)
        : steps_(options.call_steps),
          geometry_{options.cell, options.input > 0 ? options.input : hidden, hidden, 0, 1, 1},
          stream_(test::random_stack(geometry_, tier, options.type), options.batch),
          x_(random_.floats(kDistinctInputs * x_size())),
          y_(static_cast<std::size_t>(steps_ * options.batch * hidden)) {}

    void call() {
        const float* x = x_.data() + calls_++ % kDistinctInputs * x_size();
        if (steps_ == 1) {
            stream_.step(x, y_.data());
        } else {
            stream_.process(x, y_.data(), steps_);
        }
    }

private:
    std::ptrdiff_t x_size() const { return steps_ * stream_.batch() * geometry_.input_size; }

    std::ptrdiff_t steps_;
    Geometry geometry_;
    StreamState stream_;
    test::Random random_;
    std::vector<float> x_;
    std::vector<float> y_;
    std::ptrdiff_t calls_ = 0;
};

void print_times(Runner& runner, std::ptrdiff_t hidden, std::ptrdiff_t calls, std::ptrdiff_t call_steps) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> times(static_cast<std::size_t>(calls));
    // The first pass warms caches, branch predictors and the clock of the core.
    for (int pass = 0; pass < 2; ++pass) {
        for (double& time : times) {
            const Clock::time_point start = Clock::now();
            runner.call();
            const std::chrono::duration<double, std::micro> elapsed = Clock::now() - start;
            time = elapsed.count() / static_cast<double>(call_steps);
        }
    }
    std::sort(times.begin(), times.end());
    const auto quantile = [&](std::size_t of_1000) { return times[(times.size() * of_1000 + 999) / 1000 - 1]; };
    std::printf("%6td %9.3f %9.3f %9.3f %9.3f %8td\n", hidden, quantile(500), quantile(990), quantile(999),
                times.front(), calls);
}

void run(const Options& options) {
    const KernelTable& tier = select_tier(options.isa);
    const std::ptrdiff_t calls = options.steps / options.call_steps;
    if (!options.count) {
        std::printf("%s, us a step\n%6s %9s %9s %9s %9s %8s\n", tier.isa, "hidden", "p50", "p99", "p99.9", "min",
                    "calls");
    }
    for (const std::ptrdiff_t hidden : options.hidden) {
        Runner runner(options, hidden, tier);
        if (options.count) {
            for (std::ptrdiff_t call = 0; call < calls; ++call) runner.call();
        } else {
            print_times(runner, hidden, calls, options.call_steps);
        }
    }
}

}    // namespace
}    // namespace fusedcell

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--help") == 0) return std::fputs(fusedcell::kUsage, stdout) < 0;
    if (argc == 2 && std::strcmp(argv[1], "--compiler") == 0) return std::puts(FUSEDCELL_COMPILER) < 0;
    try {
        fusedcell::run(fusedcell::parse({argv + 1, argv + argc}));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "fusedcell_latency: %s\n", error.what());
        return 2;
    }
    return 0;
}
