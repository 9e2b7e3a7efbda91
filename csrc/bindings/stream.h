// Stream, and what its methods and calls of many streams share.
#pragma once

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>

#include "bindings/arrays.h"
#include "bindings/fast_method.h"
#include "bindings/instance.h"
#include "model/stream.h"

namespace fusedcell::bindings {

// Taken by one call at a time. A second thread that comes while a call runs gets an error, not a mixed state.
class Turn {
public:
    bool take() { return !taken_.exchange(true, std::memory_order_acquire); }
    void give_back() { taken_.store(false, std::memory_order_release); }

    // Holds it for one call.
    class Held {
    public:
        /// RuntimeError that says `error` if another call holds it.
        Held(Turn& turn, const char* error) : turn_(turn) {
            if (!turn_.take()) throw std::runtime_error(error);
        }
        ~Held() { turn_.give_back(); }
        Held(const Held&) = delete;
        Held& operator=(const Held&) = delete;

    private:
        Turn& turn_;
    };

private:
    std::atomic<bool> taken_{false};
};

// Of x and y: (features,), or (rows, features) where there is a batch axis.
struct RowsShape {
    bool batched;
    std::ptrdiff_t rows;
    std::ptrdiff_t features;

    std::size_t floats() const { return static_cast<std::size_t>(rows * features); }
    Shape dims() const { return batched ? Shape{rows, features} : Shape{features}; }
    bool is_of(PyArrayObject* array) const {
        const npy_intp* dims = PyArray_DIMS(array);
        if (!batched) return PyArray_NDIM(array) == 1 && dims[0] == features;
        return PyArray_NDIM(array) == 2 && dims[0] == rows && dims[1] == features;
    }
};

class Stream {
public:
    /// `owner` is the node's Python object. With `batch_first` blocks are (batch, steps, features).
    Stream(py::object owner, std::shared_ptr<const Node> node, std::ptrdiff_t batch, int num_threads, bool batch_first)
        : owner_(std::move(owner)),
          state_(std::move(node), batch, num_threads),
          step_operations_(state_.node().step_operations() * static_cast<double>(batch)),
          batch_first_(batch_first) {}
    Stream(const Stream& other)
        : owner_(other.owner_),
          state_(other.state_),
          step_operations_(other.step_operations_),
          batch_first_(other.batch_first_) {}
    Stream& operator=(const Stream&) = delete;

    StreamState& state() { return state_; }
    States& states() { return state_.states(); }
    const Node& node() const { return state_.node(); }
    const py::object& owner() const { return owner_; }
    const NodeShape& shape() const { return node().shape(); }
    std::ptrdiff_t batch() const { return state_.batch(); }
    bool batch_first() const { return batch_first_; }
    Turn& turn() { return turn_; }

    /// Multiply-adds of so many steps.
    double operations(std::ptrdiff_t steps) const { return step_operations_ * static_cast<double>(steps); }

    /// A batch of one is unbatched: its shapes have no batch axis.
    RowsShape x_shape() const { return {batch() > 1, batch(), shape().input_size}; }
    RowsShape y_shape() const { return {batch() > 1, batch(), shape().output_size}; }

    // Holds the stream for one call.
    struct InUse : Turn::Held {
        static constexpr const char* kError =
            "stream: another thread is using it; give each thread a stream of its own";
        explicit InUse(Stream& stream) : Held(stream.turn(), kError) {}
    };

private:
    py::object owner_;
    StreamState state_;
    double step_operations_;
    bool batch_first_;
    Turn turn_;
};

/// Shapes of h and c.
Shape h_shape(const NodeShape& shape, std::ptrdiff_t batch);
Shape c_shape(const NodeShape& shape, std::ptrdiff_t batch);

bool overlaps(PyArrayObject* array, States& states);

/// The memory of an `out` argument, which is written in place and so must be exactly right: float32, writeable,
/// aligned, C-contiguous, and of this shape. TypeError or ValueError.
float* writeable_floats(PyObject* out, const std::string& name);
float* checked_out(PyObject* out, const RowsShape& shape);
/// ValueError if what is written to `out` would change one of these states.
void check_apart(PyArrayObject* out, States& states);

/// Row numbers from `first` to `batch` - 1, or one number, or a boolean mask over the batch. Negative numbers count
/// from the end. IndexError, TypeError or ValueError that name the argument.
void read_rows(py::handle value, const char* name, std::ptrdiff_t first, std::ptrdiff_t batch,
               std::vector<std::ptrdiff_t>& rows);

/// A row number for each row of the batch, likewise: whose state each goes on from.
std::vector<std::ptrdiff_t> read_order(py::handle value, std::ptrdiff_t batch);
inline constexpr Signature kReorder{"reorder(rows)", {"rows"}, 1};
inline constexpr char kReorderDoc[] =
    "reorder($self, /, rows)\n--\n\n"
    "Each row goes on from another's state: row b from that of row ``rows[b]``, as beam search does with its\n"
    "hypotheses. `rows` is one number for each row; a row may come several times, or not at all. Raises TypeError,\n"
    "ValueError or IndexError, and leaves the state as it was, otherwise.";

/// A writeable view of `owner`'s own memory, which it keeps alive. Strides are in floats; empty: contiguous.
py::object view_of(const py::object& owner, float* data, const Shape& shape, const Shape& strides = {});

/// Reads h_0, and c_0 of an LSTM, as what the states start from; None: zeros.
void start_from(const NodeShape& shape, States& states, py::handle h_0, py::handle c_0);

/// A number of rows that memory could hold. ValueError that names the argument, and MemoryError where there are no
/// addresses for so many.
std::ptrdiff_t read_count(py::handle value, const char* name);
/// The same, of a node that has streams.
std::ptrdiff_t read_batch(const Node& node, py::handle value, const char* name);

/// Adds the methods that read and change states.
void bind_states(py::class_<Stream>& stream);

}    // namespace fusedcell::bindings

namespace pybind11::detail {

template <>
class type_caster<fusedcell::bindings::Stream>
    : public fusedcell::bindings::InitialisedCaster<type_caster_base<fusedcell::bindings::Stream>> {};

}    // namespace pybind11::detail
