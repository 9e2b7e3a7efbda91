// Streams, pools and calls of many streams run a node that is no recurrent layer: a delay of one step.
#include "model/node.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "check.h"
#include "model/stream.h"
#include "model/stream_pool.h"

namespace fusedcell::test {
namespace {

constexpr std::ptrdiff_t kSize = 3;

// y[t] = x[t - 1], whose state is the x before.
class Delay final : public Node {
public:
    Delay() : Node({kSize, kSize, 1, kSize, 0, true}) {}

    void run(const NodeRun& run, Workspace&, int) const override {
        for (std::ptrdiff_t b = 0; b < run.batch; ++b) {
            float* h = run.states.last_h(b, kSize);
            for (std::ptrdiff_t t = 0; t < run.steps; ++t) delay(run.x.row(t, b), run.y.row(t, b), h);
        }
    }
    void step(const float* x, float* y, float* h, float*, Workspace&) const override { delay(x, y, h); }
    void reserve(std::ptrdiff_t, std::ptrdiff_t, Workspace&, int) const override {}
    bool is_small(double) const override { return true; }
    double step_operations() const override { return 0; }
    std::size_t nbytes() const override { return 0; }
    std::size_t matrix_nbytes() const override { return 0; }

private:
    static void delay(const float* x, float* y, float* h) {
        std::copy_n(h, kSize, y);
        std::copy_n(x, kSize, h);
    }
};

std::vector<float> counted(std::ptrdiff_t size, float first = 1) {
    std::vector<float> values(static_cast<std::size_t>(size));
    std::generate(values.begin(), values.end(), [&] { return first++; });
    return values;
}

void a_stream_steps_processes_copies_and_resets_it() {
    for (const std::ptrdiff_t batch : {1, 2}) {
        const std::ptrdiff_t floats = batch * kSize;
        StreamState stream(std::make_shared<const Delay>(), batch);
        CHECK(stream.states().h_floats() == static_cast<std::size_t>(floats) && stream.states().c() == nullptr);
        const std::vector<float> x = counted(4 * floats);
        std::vector<float> expected(static_cast<std::size_t>(floats));
        expected.insert(expected.end(), x.begin(), x.end() - floats);
        std::vector<float> y(x.size());
        stream.process(x.data(), y.data(), 3);
        StreamState copy(stream);
        stream.step(x.data() + 3 * floats, y.data() + 3 * floats);
        CHECK(y == expected);
        copy.step(x.data() + 3 * floats, y.data());
        CHECK(std::equal(y.begin(), y.begin() + floats, expected.end() - floats));
        for (std::ptrdiff_t row = 0; row < batch; ++row) stream.states().reset_row(row);
        stream.step(x.data(), y.data());
        CHECK(std::all_of(y.begin(), y.begin() + floats, [](float value) { return value == 0; }));
    }
}

void a_pool_steps_the_slots_it_is_asked_for() {
    StreamPool pool(std::make_shared<const Delay>(), 3);
    const std::ptrdiff_t a = pool.join();
    const std::ptrdiff_t b = pool.join();
    const std::vector<float> x = counted(2 * kSize);
    std::vector<float> y(x.size());
    pool.step({b, a}, x.data(), y.data());
    pool.step({b}, counted(kSize, 7).data(), y.data());
    CHECK(std::equal(x.begin(), x.begin() + kSize, y.begin()));
    pool.step({a, b}, x.data(), y.data());
    CHECK(y == std::vector<float>({4, 5, 6, 7, 8, 9}));
}

void more_rows_than_a_part_has_are_stepped_each_by_its_state() {
    constexpr std::ptrdiff_t kRows = 2 * Node::kMostRows + 1;
    const Delay node;
    std::vector<float> states = counted(kRows * kSize, -5);
    const std::vector<float> before = states;
    const std::vector<float> x = counted(kRows * kSize);
    std::vector<float> y(x.size());
    std::vector<RowState> rows;
    for (std::ptrdiff_t row = 0; row < kRows; ++row) rows.push_back({states.data() + row * kSize, nullptr, 1});
    Workspace workspace;
    node.step_rows(x.data(), y.data(), rows.data(), kRows, workspace);
    CHECK(y == before && states == x);
}

}    // namespace
}    // namespace fusedcell::test

int main() {
    using namespace fusedcell::test;
    a_stream_steps_processes_copies_and_resets_it();
    a_pool_steps_the_slots_it_is_asked_for();
    more_rows_than_a_part_has_are_stepped_each_by_its_state();
}
