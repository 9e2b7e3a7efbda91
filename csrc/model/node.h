// A node: rows in, rows out, and a state that goes from step to step. Streams, pools and calls of many streams know no
// more than this of what they run. A recurrent layer is one (stack.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/checkpoint.h"
#include "model/rows.h"
#include "model/workspace.h"

namespace fusedcell {

// What never changes of a node. The state of one row is h and c, each of `state_layers` vectors.
struct NodeShape {
    std::ptrdiff_t input_size;     // features of a row of x
    std::ptrdiff_t output_size;    // of a row of y
    std::ptrdiff_t state_layers;
    std::ptrdiff_t h_size;
    std::ptrdiff_t c_size;    // 0: there is no c
    bool has_streams;         // steps can be taken one by one
};

// Shapes: T steps, B batch rows, I = input_size, O = output_size, S = state_layers.
struct NodeRun {
    std::ptrdiff_t steps;
    std::ptrdiff_t batch;
    SequenceView<const float> x;    // (T, B, I)
    SequenceView<float> y;          // (T, B, O)
    StateView states;
    const std::int64_t* lengths;        // (B,) in [0, T], or null; falling where x and y are packed
    SequenceView<const bool> mask{};    // (T, B), of every layer and direction; null data: all true
    TraceView trace{};                  // of a recurrent layer: of the first layer and direction, zero from the start
    std::ptrdiff_t trace_rows = 0;      // from one layer and direction to the next, counted as TraceView does
    // Of a long run, or null. Where it stops a run, y, h_n and c are left as far as they had come.
    Checkpoint* checkpoint = nullptr;
    const std::ptrdiff_t* order = nullptr;    // (B,): the rows by falling lengths; made where it is needed
    std::ptrdiff_t state_rows = 0;            // from one layer and direction to the next, where not B
    bool has_room = false;                    // reserve() has made it, for one thread

    /// Of packed x and y, the same of both, (T + 1,) with the number of rows at the end; else null.
    const std::ptrdiff_t* offsets() const { return x.offsets; }
    /// Steps of all rows together, each up to its length.
    double rows() const;
};

class Node {
public:
    explicit Node(const NodeShape& shape) : shape_(shape) {}
    virtual ~Node() = default;
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    const NodeShape& shape() const { return shape_; }

    /// Runs in the kernels' floating-point mode and gives the caller's back. y must not overlap x. Uses up to
    /// `num_threads` threads, as many as pay and as there are CPUs; the bits do not depend on it.
    virtual void run(const NodeRun& run, Workspace& workspace, int num_threads = 1) const = 0;

    /// The same for one step of one row on one thread: x (I,), y (O,), and the states (S, h_size) and (S, c_size),
    /// updated in place. The node has streams. Room for it has been made.
    virtual void step(const float* x, float* y, float* h, float* c, Workspace& workspace) const = 0;

    /// Makes room for runs of up to `steps` steps, so that they will not allocate on one thread.
    virtual void reserve(std::ptrdiff_t steps, std::ptrdiff_t batch, Workspace& workspace,
                         int num_threads = 1) const = 0;

    /// Whether a run of so many rows is too small for threads ever to pay, a row at one step counting as one.
    virtual bool is_small(double rows) const = 0;

    /// Multiply-adds of one step of one batch row.
    virtual double step_operations() const = 0;

    /// Bytes of packed weights, and those of them that are matrices, with what pads these to whole vectors.
    virtual std::size_t nbytes() const = 0;
    virtual std::size_t matrix_nbytes() const = 0;

    /// One step of rows whose states lie anywhere: x (N, I), y (N, O). The node has streams. Takes the rows in parts of
    /// at most kMostRows, so that its memory has a bound and stays in cache, and reads the weights once for each part.
    /// If there is no memory, it throws before any state has changed.
    void step_rows(const float* x, float* y, const RowState* rows, std::ptrdiff_t num_rows, Workspace& workspace,
                   int num_threads = 1) const;
    static constexpr std::ptrdiff_t kMostRows = 128;

protected:
    void set_input_size(std::ptrdiff_t size) { shape_.input_size = size; }

private:
    NodeShape shape_;
};

}    // namespace fusedcell
