// However a run is shared out among threads, and whoever else asks for them, its bits are those of one thread.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cpu/dispatch.h"
#include "testing/random_stack.h"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace fusedcell {
namespace {

constexpr std::ptrdiff_t kMostSteps = 100;
constexpr std::ptrdiff_t kBatch = 3;

int failures = 0;
std::atomic<int> runs{0};

// Whether a layer and a plan, of which `place` is made, are run with this one of so many values of something else: so
// that every two of a layer, a plan and what else varies meet. All combinations would be twelve times as many runs.
bool is_run(std::size_t place, std::size_t value, std::size_t count) { return place % count == value; }

struct Result {
    std::vector<float> y, h, c;

    bool operator==(const Result& other) const {
        const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
            return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
        };
        return same(y, other.y) && same(h, other.h) && same(c, other.c);
    }
};

void expect(bool condition, const std::string& what) {
    if (condition) return;
    std::fprintf(stderr, "FAILED: %s\n", what.c_str());
    ++failures;
}

// Goes on for so many steps, or for ever.
struct Steps {
    int left;
    std::thread::id caller = std::this_thread::get_id();
    bool by_another_thread = false;

    static bool go_on(void* context) {
        Steps& steps = *static_cast<Steps*>(context);
        if (std::this_thread::get_id() != steps.caller) steps.by_another_thread = true;
        return steps.left < 0 || --steps.left > 0;
    }
};

// Small layers run for more steps than a stack takes at a time, which is 86 for this batch; an emulated CPU would need
// minutes for large ones.
std::ptrdiff_t steps_of(const Geometry& geometry) { return geometry.hidden_size < 10 ? kMostSteps : 23; }

// How long the rows of a run are.
enum class Rows { kEqual, kOfLengths, kPacked };

// So many runs in one workspace: the second starts with the state, and the memory, that the first left. A run that was
// stopped comes before them. The last one has the checkpoint, if one is given.
Result run(const Stack& stack, const std::vector<float>& x, Rows rows, const ThreadPlan& plan, int times = 2,
           int stop_at_step = 0, Checkpoint* last_checkpoint = nullptr) {
    const Geometry& geometry = stack.geometry();
    const std::ptrdiff_t steps = steps_of(geometry);
    const std::int64_t some_lengths[kBatch] = {steps, 0, steps * 9 / 10};
    const std::int64_t packed_lengths[kBatch] = {steps, steps * 9 / 10, 5};
    const std::int64_t* const lengths = rows == Rows::kPacked ? packed_lengths : some_lengths;
    std::vector<std::ptrdiff_t> offsets{0};
    for (std::ptrdiff_t step = 0; step < steps; ++step) {
        const auto has_it = [step](std::int64_t length) { return length > step; };
        offsets.push_back(offsets.back() + std::count_if(packed_lengths, packed_lengths + kBatch, has_it));
    }
    const std::ptrdiff_t* const packed = rows == Rows::kPacked ? offsets.data() : nullptr;
    const std::ptrdiff_t outputs = geometry.num_directions * geometry.output_size();
    const auto states = static_cast<std::size_t>(geometry.num_layers * geometry.num_directions * kBatch);
    Result result;
    result.y.resize(static_cast<std::size_t>(steps * kBatch * outputs));
    result.h.resize(states * static_cast<std::size_t>(geometry.output_size()));
    result.c.resize(states * static_cast<std::size_t>(geometry.hidden_size));
    NodeRun call{steps,
                 kBatch,
                 {x.data(), kBatch * geometry.input_size, geometry.input_size, packed},
                 {result.y.data(), kBatch * outputs, outputs, packed},
                 {result.h.data(), result.h.data(), geometry.has_cell_state() ? result.c.data() : nullptr},
                 rows == Rows::kEqual ? nullptr : lengths};
    Workspace workspace;
    if (stop_at_step > 0) {
        Steps asked{stop_at_step};
        Checkpoint checkpoint(&Steps::go_on, &asked, 0);
        call.checkpoint = &checkpoint;
        stack.run(call, workspace, plan);
        expect(checkpoint.stopped() && asked.left == 0, "a run ends where it is stopped");
        expect(!asked.by_another_thread, "the thread that starts a run is the one that is asked");
        std::fill(result.h.begin(), result.h.end(), 0.0F);
        std::fill(result.c.begin(), result.c.end(), 0.0F);
    }
    Steps unlimited{-1};
    Checkpoint checkpoint(&Steps::go_on, &unlimited, 0);
    call.checkpoint = stop_at_step > 0 ? &checkpoint : nullptr;
    for (int i = 0; i < times; ++i) {
        if (last_checkpoint != nullptr && i == times - 1) call.checkpoint = last_checkpoint;
        stack.run(call, workspace, plan);
        ++runs;
    }
    return result;
}

std::vector<Geometry> geometries() {
    std::vector<Geometry> all;
    for (const CellKind kind :
         {CellKind::kRnnTanh, CellKind::kLstm, CellKind::kGruResetAfter, CellKind::kGruResetBefore}) {
        for (const std::ptrdiff_t hidden : {5, 100}) {
            all.push_back({kind, 9, hidden, 0, 1, 1});
            all.push_back({kind, 9, hidden, 0, 3, 1});
            all.push_back({kind, 9, hidden, 0, 2, 2});
        }
    }
    all.push_back({CellKind::kLstm, 9, 100, 33, 2, 1});
    all.push_back({CellKind::kLstm, 9, 100, 0, 2, 1, true});
    return all;
}

std::vector<ThreadPlan> plans(const Geometry& geometry) {
    std::vector<ThreadPlan> all{{2}, {3}, {5}};
    if (geometry.num_directions == 2) {
        for (const int threads : {2, 3, 4}) all.push_back({threads, 2});
    } else if (geometry.num_layers > 1 && !geometry.reverse) {
        for (const int threads : {2, 3, 5}) all.push_back({threads, 2, true});
        all.push_back({3, 3, true});
    }
    return all;
}

void every_plan_gives_the_bits_of_one_thread() {
    struct Weights {
        WeightType type;
        bool general;
    };
    // A plan shares out blocks, which differ by type in their inputs alone: floats, or one plane of int8, or two.
    constexpr Weights kWeights[] = {{WeightType::float32, false},
                                    {WeightType::int8, false},
                                    {WeightType::int8_int16, false},
                                    {WeightType::float32, true}};
    constexpr Rows kRows[] = {Rows::kEqual, Rows::kOfLengths, Rows::kPacked};
    const std::vector<Geometry> layers = geometries();
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
        const Geometry& geometry = layers[layer];
        const std::vector<ThreadPlan> all = plans(geometry);
        test::Random random;
        const std::vector<float> x = random.floats(kMostSteps * kBatch * geometry.input_size);
        for (std::size_t w = 0; w < std::size(kWeights); ++w) {
            const auto [type, general] = kWeights[w];
            const auto stack = test::random_stack(geometry, *available_tiers().front(), type, general);
            for (std::size_t r = 0; r < std::size(kRows); ++r) {
                std::optional<Result> expected;
                for (std::size_t i = 0; i < all.size(); ++i) {
                    const ThreadPlan& plan = all[i];
                    if (!is_run(layer + i, r, 3) || !is_run(layer + 3 * i, w, std::size(kWeights))) continue;
                    if (!expected) expected = run(*stack, x, kRows[r], ThreadPlan{});
                    expect(run(*stack, x, kRows[r], plan) == *expected,
                           (general ? "general kind " : "kind ") + std::to_string(static_cast<int>(geometry.kind)) +
                               ", H " + std::to_string(geometry.hidden_size) + ", layers " +
                               std::to_string(geometry.num_layers) + ": " + std::to_string(plan.threads) +
                               " threads in " + std::to_string(plan.groups) + " groups");
                }
            }
        }
    }
}

void a_run_that_is_stopped_leaves_nothing_behind(bool general) {
    const std::vector<Geometry> layers = geometries();
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
        const Geometry& geometry = layers[layer];
        const auto stack = test::random_stack(geometry, *available_tiers().front(), WeightType::float32, general);
        test::Random random;
        const std::vector<float> x = random.floats(kMostSteps * kBatch * geometry.input_size);
        const Result expected = run(*stack, x, Rows::kOfLengths, ThreadPlan{}, 1);
        std::vector<ThreadPlan> all = plans(geometry);
        all.push_back({});
        for (std::size_t i = 0; i < all.size(); ++i) {
            const ThreadPlan& plan = all[i];
            for (const int step : {1, 20}) {
                if (!is_run(layer + i, step == 1, 2) || !is_run(layer + i / 2, general, 2)) continue;
                expect(run(*stack, x, Rows::kOfLengths, plan, 1, step) == expected,
                       "stopped at step " + std::to_string(step) + " of kind " +
                           std::to_string(static_cast<int>(geometry.kind)) + ", layers " +
                           std::to_string(geometry.num_layers) + ": " + std::to_string(plan.threads) + " threads in " +
                           std::to_string(plan.groups) + " groups");
            }
        }
    }
}

#if !defined(_WIN32)
// Forks at one of the steps at which it is asked.
struct ForkAt {
    int left;
    pid_t child = -1;

    static bool go_on(void* context) {
        ForkAt& fork_at = *static_cast<ForkAt*>(context);
        if (--fork_at.left == 0) fork_at.child = fork();
        if (fork_at.child == 0) alarm(60);    // of a child that would wait for ever
        return true;
    }
};

void a_child_that_is_forked_in_a_run_finishes_it() {
    const std::vector<Geometry> layers = geometries();
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
        const Geometry& geometry = layers[layer];
        const auto stack = test::random_stack(geometry, *available_tiers().front());
        test::Random random;
        const std::vector<float> x = random.floats(kMostSteps * kBatch * geometry.input_size);
        const Result expected = run(*stack, x, Rows::kOfLengths, ThreadPlan{});
        std::vector<ThreadPlan> all = plans(geometry);
        all.push_back({});
        for (std::size_t i = 0; i < all.size(); ++i) {
            const ThreadPlan& plan = all[i];
            if (!is_run(layer + i, 0, 3)) continue;
            ForkAt fork_at{10};
            Checkpoint checkpoint(&ForkAt::go_on, &fork_at, 0);
            const bool right = run(*stack, x, Rows::kOfLengths, plan, 2, 0, &checkpoint) == expected;
            if (fork_at.child == 0) _exit(right && !checkpoint.stopped() ? 0 : 1);
            int status = -1;
            const bool ended = fork_at.child > 0 && waitpid(fork_at.child, &status, 0) == fork_at.child;
            expect(right && ended && status == 0,
                   "forked in a run of kind " + std::to_string(static_cast<int>(geometry.kind)) + ", layers " +
                       std::to_string(geometry.num_layers) + ": " + std::to_string(plan.threads) + " threads in " +
                       std::to_string(plan.groups) + " groups");
        }
    }
}
#endif

void callers_at_the_same_time_get_their_own_results() {
    const Geometry geometry{CellKind::kLstm, 9, 64, 0, 2, 1};
    const auto stack = test::random_stack(geometry, *available_tiers().front());
    test::Random random;
    const std::vector<float> x = random.floats(kMostSteps * kBatch * geometry.input_size);
    const Result expected = run(*stack, x, Rows::kEqual, ThreadPlan{});
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; ++caller) {
        callers.emplace_back([&, caller] {
            const std::vector<ThreadPlan> all = plans(geometry);
            for (std::size_t i = 0; i < 14; ++i) {
                const ThreadPlan& plan = all[(i + static_cast<std::size_t>(caller)) % all.size()];
                if (!(run(*stack, x, Rows::kEqual, plan) == expected)) ++wrong;
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    expect(wrong == 0, "callers at the same time");
}

void a_team_runs_every_member_once() {
    for (const int size : {1, 2, 7}) {
        std::vector<std::atomic<int>> calls(static_cast<std::size_t>(size));
        auto work = [&](int index) { ++calls[static_cast<std::size_t>(index)]; };
        expect(Team::run(size, work), "a team that nobody else uses");
        for (const std::atomic<int>& count : calls) expect(count == 1, "each member is called once");
    }
    auto outer = [](int) {
        auto inner = [](int) {};
        expect(!Team::run(2, inner), "a team within a team is refused, not waited for");
    };
    Team::run(1, outer);
}

// How many of the next `calls` runs take threads, where these take `threads` and one thread takes 10.
int threaded_runs(ThreadTrial& trial, int calls, int threads) {
    int count = 0;
    for (int i = 0; i < calls; ++i) {
        if (trial.wants_one_thread()) {
            trial.one_thread_took(ThreadTrial::Duration{10});
        } else {
            trial.threads_took(ThreadTrial::Duration{threads});
            ++count;
        }
    }
    return count;
}

void threads_that_take_longer_stay_away() {
    ThreadTrial trial;
    expect(threaded_runs(trial, 1, 6) == 1, "the only run of a shape takes threads");
    expect(threaded_runs(trial, 640, 6) == 630, "while threads pay, one run in 64 takes one thread");
    expect(threaded_runs(trial, 10000, 30) < 100, "threads that take longer hardly run");
    expect(threaded_runs(trial, 10000, 6) > 7000, "and come back when they pay again");

    ThreadTrials trials;
    const int stacks[9] = {};
    trials.of({&stacks[0], 1, 1}).one_thread_took(ThreadTrial::Duration{1});
    expect(&trials.of({&stacks[0], 1, 1}) == &trials.of({&stacks[0], 1, 1}), "a shape keeps its trial");
    expect(&trials.of({&stacks[0], 2, 1}) != &trials.of({&stacks[0], 1, 1}), "another number of steps is another");
    for (const int& stack : stacks) expect(trials.of({&stack, 1, 1}).shape() == RunShape{&stack, 1, 1}, "a new shape");
}

}    // namespace
}    // namespace fusedcell

int main() {
    fusedcell::every_plan_gives_the_bits_of_one_thread();
    fusedcell::a_run_that_is_stopped_leaves_nothing_behind(false);
    fusedcell::a_run_that_is_stopped_leaves_nothing_behind(true);
#if !defined(_WIN32)
    fusedcell::a_child_that_is_forked_in_a_run_finishes_it();
#endif
    fusedcell::callers_at_the_same_time_get_their_own_results();
    fusedcell::a_team_runs_every_member_once();
    fusedcell::threads_that_take_longer_stay_away();
    std::printf("%d runs, %d failures\n", fusedcell::runs.load(), fusedcell::failures);
    return fusedcell::failures == 0 ? 0 : 1;
}
