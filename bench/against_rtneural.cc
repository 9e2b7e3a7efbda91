// A step of ours against a step of RTNeural: the same weights, the same inputs, the same outputs, in turns.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cpu/dispatch.h"
#include "model/stream.h"
#include "rtneural_cells.h"
#include "testing/random_stack.h"

namespace fusedcell::bench {
namespace {

constexpr std::array<std::pair<const char*, CellKind>, 2> kCells = {
    {{"lstm", CellKind::kLstm}, {"gru", CellKind::kGruResetAfter}}};
constexpr std::ptrdiff_t kSizes[] = {16, 32, 64, 128};

constexpr std::ptrdiff_t kCheckedSteps = 100;
constexpr float kTolerance = 1e-5F;
constexpr std::ptrdiff_t kDistinctInputs = 8;
constexpr std::ptrdiff_t kTurnCalls = 25;    // of as many steps as there are inputs
constexpr std::ptrdiff_t kTurnSteps = kTurnCalls * kDistinctInputs;
constexpr int kRounds = 301;

// One layer's weights and biases, drawn as PyTorch draws them: uniform in +-1 / sqrt(H).
class Weights {
public:
    explicit Weights(const Geometry& geometry)
        : weight_ih_(draw(geometry, geometry.input_size)),
          weight_hh_(draw(geometry, geometry.hidden_size)),
          bias_ih_(draw(geometry, 1)),
          bias_hh_(draw(geometry, 1)) {}

    CellWeights view(WeightType type = WeightType::float32) const {
        CellWeights weights;
        weights.weight_ih.values = weight_ih_.data();
        weights.weight_hh.values = weight_hh_.data();
        weights.weight_ih.type = weights.weight_hh.type = type;
        weights.bias_ih = bias_ih_.data();
        weights.bias_hh = bias_hh_.data();
        return weights;
    }

private:
    std::vector<float> draw(const Geometry& geometry, std::ptrdiff_t depth) {
        std::vector<float> values = random_.floats(gates_of(geometry.kind) * geometry.hidden_size * depth);
        const float scale = 2 / std::sqrt(static_cast<float>(geometry.hidden_size));
        for (float& value : values) value *= scale;
        return values;
    }

    test::Random random_;
    std::vector<float> weight_ih_;
    std::vector<float> weight_hh_;
    std::vector<float> bias_ih_;
    std::vector<float> bias_hh_;
};

class OurCell {
public:
    OurCell(const Geometry& geometry, const Weights& weights, WeightType type)
        : size_(geometry.hidden_size),
          stream_(std::make_shared<const Stack>(geometry, std::vector{weights.view(type)}, select_tier({})), 1) {}

    void reset() { stream_.states().reset_row(0); }
    void run(const float* x, float* y, std::ptrdiff_t steps) {
        for (std::ptrdiff_t step = 0; step < steps; ++step) stream_.step(x + step * size_, y + step * size_);
    }

private:
    std::ptrdiff_t size_;
    StreamState stream_;
};

template <class Cell>
std::vector<float> outputs(Cell& cell, const std::vector<float>& x, std::ptrdiff_t steps) {
    std::vector<float> y(x.size());
    cell.reset();
    cell.run(x.data(), y.data(), steps);
    return y;
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
    float largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const float difference = std::abs(a[i] - b[i]);
        if (!(difference <= largest)) largest = difference;    // a NaN stays
    }
    return largest;
}

// Microseconds a step of the turns that the cells took in rounds.
using Times = std::vector<double>;

template <class Cell>
double turn(Cell& cell, const std::vector<float>& x, std::vector<float>& y) {
    const auto start = std::chrono::steady_clock::now();
    for (std::ptrdiff_t call = 0; call < kTurnCalls; ++call) cell.run(x.data(), y.data(), kDistinctInputs);
    const std::chrono::duration<double, std::micro> elapsed = std::chrono::steady_clock::now() - start;
    return elapsed.count() / static_cast<double>(kTurnSteps);
}

double quantile(Times times, double q) {
    std::sort(times.begin(), times.end());
    return times[static_cast<std::size_t>(std::lround(q * static_cast<double>(times.size() - 1)))];
}

// How often our time fits into theirs, and the logarithm of its median for the geometric mean.
double print_ratio(const Times& theirs, const Times& ours) {
    Times ratios(theirs.size());
    std::transform(theirs.begin(), theirs.end(), ours.begin(), ratios.begin(), std::divides<>());
    std::printf("  %5.2f (%5.2f..%5.2f)", quantile(ratios, 0.5), quantile(ratios, 0.1), quantile(ratios, 0.9));
    return std::log(quantile(ratios, 0.5));
}

struct LogRatios {
    double float32 = 0;
    double int8 = 0;
};

LogRatios compare(const char* name, CellKind kind, std::ptrdiff_t size) {
    const Geometry geometry{kind, size, size, 0, 1, 1};
    const Weights weights(geometry);
    const std::unique_ptr<RTNeuralCell> theirs = make_rtneural_cell(geometry, weights.view());
    OurCell float32(geometry, weights, WeightType::float32);
    OurCell int8(geometry, weights, WeightType::int8);

    test::Random random;
    std::vector<float> x = random.floats(kCheckedSteps * size);
    for (float& value : x) value *= 2;
    const std::vector<float> expected = outputs(*theirs, x, kCheckedSteps);
    const float difference = largest_difference(outputs(float32, x, kCheckedSteps), expected);
    const float int8_difference = largest_difference(outputs(int8, x, kCheckedSteps), expected);
    if (!(difference <= kTolerance)) {
        throw std::runtime_error(std::string(name) + " of " + std::to_string(size) + ": outputs differ by " +
                                 std::to_string(difference));
    }

    std::vector<float> y(x.size());
    Times their_times;
    Times float32_times;
    Times int8_times;
    const auto take_turns = [&](bool backward) {
        const auto their_turn = [&] { their_times.push_back(turn(*theirs, x, y)); };
        if (!backward) their_turn();
        float32_times.push_back(turn(float32, x, y));
        int8_times.push_back(turn(int8, x, y));
        if (backward) their_turn();
    };
    // The first rounds warm caches, branch predictors and the clock of the core.
    for (int round = 0; round < kRounds / 10; ++round) take_turns(false);
    for (Times* times : {&their_times, &float32_times, &int8_times}) times->clear();
    for (int round = 0; round < kRounds; ++round) take_turns(round % 2 == 1);

    std::printf("%-4s %6td %9.3f %9.3f %9.3f", name, size, quantile(their_times, 0.5), quantile(float32_times, 0.5),
                quantile(int8_times, 0.5));
    LogRatios ratios;
    ratios.float32 = print_ratio(their_times, float32_times);
    ratios.int8 = print_ratio(their_times, int8_times);
    std::printf("  %7.1e %7.1e\n", difference, int8_difference);
    return ratios;
}

std::string cpu_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    }
    return "unknown CPU";
}

void run() {
    std::printf("%s, %s; fusedcell on %s; us a step of one sequence, I = H; %d rounds of %td steps\n",
                cpu_name().c_str(), FUSEDCELL_COMPILER, select_tier({}).isa, kRounds, kTurnSteps);
    std::printf("%-4s %6s %9s %9s %9s  %-20s  %-20s  %s\n", "cell", "hidden", "rtneural", "float32", "int8",
                "rtneural / float32", "rtneural / int8", "largest differences");
    for (const auto& [name, kind] : kCells) {
        LogRatios sum;
        for (const std::ptrdiff_t size : kSizes) {
            const LogRatios ratios = compare(name, kind, size);
            sum.float32 += ratios.float32;
            sum.int8 += ratios.int8;
        }
        constexpr double kCount = std::size(kSizes);
        std::printf("%-4s geometric mean of the ratios: float32 %.2f, int8 %.2f\n", name,
                    std::exp(sum.float32 / kCount), std::exp(sum.int8 / kCount));
    }
}

}    // namespace
}    // namespace fusedcell::bench

int main() {
    try {
        fusedcell::bench::run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "fusedcell_against_rtneural: %s\n", error.what());
        return 1;
    }
    return 0;
}
