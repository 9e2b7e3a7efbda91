// Running a stack: layer after layer, or shared out among threads.
//
// Threads never change a bit, because they share out whole outputs. There are three ways, and they combine:
//
//     slices       each thread takes the same share of every matrix's blocks, step by step, so that its share stays in
//                  its core's cache; threads meet after every pass over a matrix
//     directions   of a bidirectional layer, side by side; they meet after every layer
//     wavefront    layers side by side, each kWavefrontSteps behind the layer below
//
// Without a wavefront, layers of one direction take a long sequence piece by piece, so that what one hands to the next
// stays in cache and takes no more memory than a piece.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

#include "cpu/available.h"
#include "kernels/kept.h"
#include "kernels/simd/float_mode.h"
#include "model/stack.h"

namespace fusedcell {
namespace {

constexpr std::ptrdiff_t kWavefrontSteps = 16;

// Steps of a layer, at the fewest, before the next layer takes them over: a layer's weights may have to come back into
// the cache each time.
constexpr std::ptrdiff_t kFewestPieceSteps = 16;

// What things cost, in nanoseconds and rather too much than too little, so that threads that would not pay stay away.
constexpr double kMeeting = 300;    // of threads that are running
constexpr double kCall = 2000;      // of workers that are spinning
constexpr double kWake = 60000;     // of workers that are asleep
// Bytes of weights that one thread reads a nanosecond, where all of them fit the second-level cache and where not, and
// multiply-adds: rather too many.
constexpr double kNearBytes = 250;
constexpr double kFarBytes = 100;
constexpr double kNear = 1 << 20;
constexpr double kFloatOperations = 80;
constexpr double kInt8Operations = 300;
constexpr double kMargin = 1.25;                 // what threads must gain
constexpr double kFewestOperations = 1 << 18;    // that one thread has done before others could help
// Less than workers spin before they sleep: who calls again that soon will find them awake from the next call on.
constexpr std::chrono::microseconds kRecently{40};

}    // namespace

// One thread of a run.
struct Stack::Worker {
    Workspace& workspace;
    ThreadPlan plan;
    TeamPart all;
    int group = 0;
    TeamPart part{};    // of its group

    int thread() const { return all.index; }
};

// How many steps of each layer are done, in a wavefront.
class Stack::Progress {
public:
    explicit Progress(std::ptrdiff_t layers) : done_(static_cast<std::size_t>(layers)) {}
    /// False if the run has been stopped, and then maybe before that many steps are done.
    [[nodiscard]] bool wait(std::ptrdiff_t layer, std::ptrdiff_t steps, const Checkpoint* checkpoint) const {
        const auto stopped = [&] { return checkpoint != nullptr && checkpoint->stopped(); };
        spin_until([&] { return at(layer).load(std::memory_order_acquire) >= steps || stopped(); });
        return !stopped();
    }
    void set(std::ptrdiff_t layer, std::ptrdiff_t steps) {
        done_[index(layer)].store(steps, std::memory_order_release);
    }

private:
    static std::size_t index(std::ptrdiff_t layer) { return static_cast<std::size_t>(layer); }
    const std::atomic<std::ptrdiff_t>& at(std::ptrdiff_t layer) const { return done_[index(layer)]; }
    std::vector<std::atomic<std::ptrdiff_t>> done_;
};

ThreadPlan Stack::plan(const NodeRun& run, double rows, int num_threads, bool called_recently) const {
    const auto steps = static_cast<double>(run.steps);
    const auto layers = static_cast<double>(geometry_.num_layers);
    const double directions = static_cast<double>(geometry_.num_directions);
    const double operations = step_operations_.floats / kFloatOperations + step_operations_.int8 / kInt8Operations;
    const auto bytes = static_cast<double>(nbytes());
    const double one = std::max(bytes / (bytes <= kNear ? kNearBytes : kFarBytes),
                                operations * rows / steps);    // a step, one thread
    // A chunk's input projection is one more meeting, which counts for runs of single steps.
    const double meetings = layers * (passes_ + 2 / std::max(steps, 1.0)) * kMeeting;

    ThreadPlan best;
    double best_time = one;
    const auto consider = [&](ThreadPlan plan, double time) {
        if (time < best_time) {
            best_time = time;
            best = plan;
        }
    };
    for (int threads = 2; threads <= std::min(num_threads, available_cpus()); ++threads) {
        const double share = one / threads;
        consider({threads}, share + directions * meetings);
        if (geometry_.num_directions == 2) {
            const int fewest = threads / 2;    // of a direction
            consider({threads, 2}, one / (2 * fewest) + (threads > 3 ? meetings : 0) + layers * kMeeting / steps);
        } else if (geometry_.num_layers > 1 && !geometry_.reverse && run.steps >= 2 * kWavefrontSteps) {
            const auto groups =
                static_cast<int>(std::min<std::ptrdiff_t>({threads, geometry_.num_layers, kMostGroups}));
            const int fewest = threads / groups;                  // of a group
            const double deepest = std::ceil(layers / groups);    // layers of the busiest group
            const double filling = 1 + (groups - 1) * static_cast<double>(kWavefrontSteps) / steps;
            consider({threads, groups, true},
                     filling * deepest / layers * (one / fewest + (threads > groups ? meetings : 0)) +
                         deepest * 2 * kMeeting / static_cast<double>(kWavefrontSteps));
        }
    }
    if (best.threads == 1) return best;
    const double start = called_recently || Team::is_awake(best.threads) ? kCall : kWake;
    return steps * best_time * kMargin + start < steps * one ? best : ThreadPlan{};
}

void Stack::reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, Workspace& workspace, int num_threads) const {
    const bool alone =
        !kForPython || num_threads == 1 || is_small(static_cast<double>(steps) * static_cast<double>(batch));
    reserve(steps, batch, ThreadPlan{alone ? 1 : std::min(num_threads, available_cpus())}, workspace);
}

void Stack::reserve(const NodeRun& run, const ThreadPlan& plan, Workspace& workspace) const {
    if (run.offsets() == nullptr) return reserve(run.steps, run.batch, plan, workspace);
    reserve(run.steps, run.batch, plan, workspace, run.offsets()[run.steps]);
    const std::ptrdiff_t piece = in_pieces(run) ? piece_steps(run.steps, 1) : 0;
    const std::ptrdiff_t steps = std::max(piece, plan.wavefront ? kWavefrontSteps : 0);
    for (ThreadSpace& own : workspace.own) own.offsets.resize(count_of<std::ptrdiff_t>(steps + 1));
}

void Stack::reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, const ThreadPlan& plan, Workspace& workspace,
                    std::ptrdiff_t most_rows_between) const {
    const auto groups = static_cast<std::size_t>(plan.groups);
    const auto threads = static_cast<std::size_t>(plan.threads);
    if (workspace.shared.size() < groups) workspace.shared.resize(groups);
    if (workspace.own.size() < threads) workspace.own.resize(threads);
    workspace.order.reserve(count_of<std::ptrdiff_t>(batch));
    for (const PackedCell& cell : cells_) {
        for (std::size_t i = 0; i < groups; ++i) cell.reserve(steps, batch, workspace.shared[i]);
        for (std::size_t i = 0; i < threads; ++i) cell.reserve(steps, batch, workspace.own[i]);
    }
    const std::ptrdiff_t boundaries = geometry_.num_layers - 1;
    const std::ptrdiff_t kept = plan.wavefront ? steps : piece_steps(steps, batch);
    const bool are_more = kept > most_rows_between / std::max<std::ptrdiff_t>(batch, 1);
    const std::ptrdiff_t rows = are_more ? most_rows_between : kept * batch;
    const std::size_t floats = count_of<float>(rows, geometry_.num_directions, geometry_.output_size());
    for (std::ptrdiff_t i = 0; i < boundaries && i < 2; ++i) {
        if (workspace.between_layers[i].size() < floats) workspace.between_layers[i].resize(floats);
    }
}

bool Stack::is_small(double rows) const { return step_operations() * rows < kFewestOperations; }

void Stack::run(const NodeRun& run, Workspace& workspace, int num_threads) const {
    if (run.steps == 0 || run.batch == 0) return;    // of no rows there can be more steps than anybody waits for
    if (!kForPython || num_threads == 1) return this->run(run, workspace, ThreadPlan{});
    const ScopedFloatMode mode;    // the plan's arithmetic too is not to trap or round as the caller's does
    const double rows = run.rows();
    if (is_small(rows)) return this->run(run, workspace, ThreadPlan{});
    const auto start = std::chrono::steady_clock::now();
    const ThreadPlan plan = this->plan(run, rows, num_threads, start - workspace.last_call < kRecently);
    ThreadTrial& trial = workspace.trials.of({this, run.steps, rows});
    if (plan.threads == 1) {
        this->run(run, workspace, plan);
        workspace.last_call = std::chrono::steady_clock::now();
        trial.one_thread_ran();
        return;
    }
    const bool one_thread = trial.wants_one_thread();
    this->run(run, workspace, one_thread ? ThreadPlan{} : plan);
    workspace.last_call = std::chrono::steady_clock::now();
    if (run.checkpoint != nullptr && run.checkpoint->stopped()) return;    // that says nothing of how long it takes
    const auto time = workspace.last_call - start;
    one_thread ? trial.one_thread_took(time) : trial.threads_took(time);
}

NodeRun Stack::in_order(const NodeRun& run, Workspace& workspace) {
    workspace.order.resize(static_cast<std::size_t>(run.batch));
    std::iota(workspace.order.begin(), workspace.order.end(), std::ptrdiff_t{0});
    std::sort(workspace.order.begin(), workspace.order.end(),
              [&](std::ptrdiff_t a, std::ptrdiff_t b) { return run.lengths[a] > run.lengths[b]; });
    NodeRun ordered = run;
    ordered.order = workspace.order.data();
    return ordered;
}

void Stack::run(const NodeRun& run, Workspace& workspace, const ThreadPlan& plan) const {
    if (run.lengths != nullptr && run.order == nullptr &&
        !std::is_sorted(run.lengths, run.lengths + run.batch, std::greater<>())) {
        return this->run(in_order(run, workspace), workspace, plan);
    }
    if (!run.has_room || plan.threads > 1) reserve(run, plan, workspace);
    if (!kForPython || plan.threads == 1 || !run_team(run, plan, workspace)) {
        const ScopedFloatMode mode;
        const TeamPart alone{0, 1, nullptr, run.checkpoint};
        const Worker worker{workspace, ThreadPlan{}, alone, 0, alone};
        in_pieces(run) ? run_pieces(run, worker) : run_layers(run, worker);
    }
    if (run.steps % 2 != 0) workspace.backward = !workspace.backward;
}

void Stack::step(const float* x, float* y, float* h, float* c, Workspace& workspace) const {
    const std::ptrdiff_t output_size = geometry_.output_size();
    const std::ptrdiff_t hidden_size = geometry_.hidden_size;
    if (!cells_can_step_) {
        NodeRun one{1, 1, {x, 0, geometry_.input_size}, {y, 0, output_size}, {h, h, c}, nullptr};
        one.has_room = true;
        run(one, workspace);
        return;
    }
    const ScopedFloatMode mode;
    const std::ptrdiff_t last = geometry_.num_layers - 1;
    ThreadSpace& own = workspace.own.front();
    own.backward = workspace.backward;
    for (std::ptrdiff_t layer = 0; layer <= last; ++layer) {
        float* out = layer == last ? y : workspace.between_layers[layer % 2].data();
        cells_[static_cast<std::size_t>(layer)].step({x, h, out, c}, workspace.shared.front(), own);
        std::memcpy(h, out, static_cast<std::size_t>(output_size) * sizeof(float));
        x = out;
        h += output_size;
        if (c != nullptr) c += hidden_size;
    }
    workspace.backward = !workspace.backward;
}

bool Stack::run_team(const NodeRun& run, const ThreadPlan& plan, Workspace& workspace) const {
    const auto states = static_cast<std::size_t>(geometry_.num_layers * geometry_.num_directions * run.batch);
    std::vector<float> h_before;
    std::vector<float> c_before;
    if (run.checkpoint != nullptr) {
        run.checkpoint->share();
        h_before.assign(run.states.h_0, run.states.h_0 + states * static_cast<std::size_t>(geometry_.output_size()));
        const float* c = run.states.c;
        if (c != nullptr) c_before.assign(c, c + states * static_cast<std::size_t>(geometry_.hidden_size));
    }
    std::array<Barrier, kMostGroups> group_barriers;
    Barrier barrier;
    Progress progress(geometry_.num_layers);
    auto work = [&](int index) {
        const ScopedFloatMode mode;
        const int group = index % plan.groups;
        const int members = (plan.threads - group + plan.groups - 1) / plan.groups;
        Barrier& group_barrier = group_barriers[static_cast<std::size_t>(group)];
        const TeamPart part{index / plan.groups, members, &group_barrier, run.checkpoint};
        const Worker worker{workspace, plan, {index, plan.threads, &barrier, run.checkpoint}, group, part};
        if (plan.wavefront) {
            run_wavefront(run, worker, progress);
        } else {
            in_pieces(run) ? run_pieces(run, worker) : run_layers(run, worker);
        }
    };
    if (!Team::run(plan.threads, work)) return false;
    if (run.checkpoint == nullptr || !run.checkpoint->lost_threads()) return true;
    if (run.states.h_0 == run.states.h_n) std::copy(h_before.begin(), h_before.end(), run.states.h_n);
    std::copy(c_before.begin(), c_before.end(), run.states.c);
    run.checkpoint->begin_alone();
    return false;
}

std::ptrdiff_t Stack::piece_steps(std::ptrdiff_t steps, std::ptrdiff_t batch) const {
    if (steps <= kFewestPieceSteps || geometry_.num_layers == 1) return steps;
    if (geometry_.num_directions == 2 || geometry_.reverse) return steps;
    // An even number, so that every piece walks the weights the same way first, and whole input projections.
    const std::ptrdiff_t unit = 2 * PackedCell::projection_steps(batch);
    return std::min(steps, (kFewestPieceSteps + unit - 1) / unit * unit);
}

NodeRun Stack::part_of(const NodeRun& run, std::ptrdiff_t first, std::ptrdiff_t steps, const Worker& worker) const {
    ThreadSpace& own = worker.workspace.own[static_cast<std::size_t>(worker.thread())];
    NodeRun part = run;
    part.steps = std::min(steps, run.steps - first);
    part.x.data = run.x.row(first, 0);
    part.y.data = run.y.row(first, 0);
    if (run.mask.data != nullptr) part.mask.data = run.mask.row(first, 0);
    part.trace = trace_after(run.trace, first * run.trace.step_stride);
    if (first > 0) part.states.h_0 = run.states.h_n;
    if (run.offsets() != nullptr) {
        const std::ptrdiff_t* offsets = run.offsets() + first;
        std::transform(offsets, offsets + part.steps + 1, own.offsets.data(),
                       [&](auto row) { return row - offsets[0]; });
        part.x.offsets = part.y.offsets = own.offsets.data();
        part.batch = own.offsets[1];    // the others have ended
        part.state_rows = run.batch;
    }
    if (run.lengths != nullptr) {
        std::transform(run.lengths, run.lengths + part.batch, own.lengths.data(),
                       [&](auto length) { return std::clamp<std::int64_t>(length - first, 0, part.steps); });
        part.lengths = own.lengths.data();
    }
    return part;
}

bool Stack::run_pieces(const NodeRun& run, const Worker& worker) const {
    std::ptrdiff_t steps = piece_steps(run.steps, run.batch);
    const std::ptrdiff_t rows = steps * run.batch;
    for (std::ptrdiff_t first = 0; first < run.steps; first += steps) {
        if (run.offsets() != nullptr) {    // of fewer rows, more steps, as far as there is room between layers
            const std::ptrdiff_t batch = run.offsets()[first + 1] - run.offsets()[first];
            steps = std::min(piece_steps(run.steps - first, batch), rows / batch / 2 * 2);
        }
        if (!run_layers(part_of(run, first, steps, worker), worker)) return false;
    }
    return true;
}

bool Stack::run_layers(const NodeRun& run, const Worker& worker) const {
    for (std::ptrdiff_t layer = 0; layer < geometry_.num_layers; ++layer) {
        for (std::ptrdiff_t direction = 0; direction < geometry_.num_directions; ++direction) {
            if (direction % worker.plan.groups != worker.group) continue;
            if (!run_cell(run, layer, direction, 0, worker)) return false;
        }
        if (worker.plan.groups > 1 && !worker.all.wait()) return false;
    }
    return true;
}

bool Stack::run_wavefront(const NodeRun& run, const Worker& worker, Progress& progress) const {
    for (std::ptrdiff_t layer = worker.group; layer < geometry_.num_layers; layer += worker.plan.groups) {
        for (std::ptrdiff_t first = 0; first < run.steps; first += kWavefrontSteps) {
            const NodeRun part = part_of(run, first, kWavefrontSteps, worker);
            const std::ptrdiff_t first_row = run.offsets() == nullptr ? first * run.batch : run.offsets()[first];
            if (layer > 0 && !progress.wait(layer - 1, first + part.steps, run.checkpoint)) return false;
            if (!run_cell(part, layer, 0, first_row, worker)) return false;
            if (worker.part.index == 0) progress.set(layer, first + part.steps);
        }
    }
    return true;
}

TraceView Stack::trace_after(const TraceView& trace, std::ptrdiff_t rows) const {
    return trace.after(rows, geometry_.hidden_size, gates_of(geometry_.kind));
}

bool Stack::run_cell(const NodeRun& run, std::ptrdiff_t layer, std::ptrdiff_t direction, std::ptrdiff_t first_row,
                     const Worker& worker) const {
    Workspace& workspace = worker.workspace;
    const std::ptrdiff_t output_size = geometry_.output_size();
    const std::ptrdiff_t width = geometry_.num_directions * output_size;
    const auto between = [&](std::ptrdiff_t index) {
        float* data = workspace.between_layers[index % 2].data() + first_row * width;
        return SequenceView<float>{data, run.batch * width, width, run.offsets()};
    };
    SequenceView<const float> x = run.x;
    if (layer > 0) {
        const SequenceView<float> below = between(layer - 1);
        x = {below.data, below.step_stride, below.row_stride, below.offsets};
    }
    SequenceView<float> y = layer == geometry_.num_layers - 1 ? run.y : between(layer);
    y.data += direction * output_size;

    const std::ptrdiff_t index = layer * geometry_.num_directions + direction;
    const std::ptrdiff_t state_rows = run.state_rows > 0 ? run.state_rows : run.batch;
    ThreadSpace& own = workspace.own[static_cast<std::size_t>(worker.thread())];
    own.backward = workspace.backward;
    return cells_[static_cast<std::size_t>(index)].run(
        {run.steps, run.batch, x, y, run.states.of_cell(index, state_rows, output_size, geometry_.hidden_size),
         run.lengths, run.mask, trace_after(run.trace, index * run.trace_rows), direction == 1 || geometry_.reverse,
         run.order},
        {workspace.shared[static_cast<std::size_t>(worker.group)], own, worker.part});
}

}    // namespace fusedcell
