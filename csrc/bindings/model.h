// Model and ModelStream, and what calls of them share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/instance.h"
#include "bindings/stream.h"
#include "load/load_model.h"
#include "model/model_stream.h"

namespace fusedcell::bindings {

// Where an expected shape has any number.
constexpr std::ptrdiff_t kAnySteps = -1;
constexpr std::ptrdiff_t kAnyBatch = -2;

// How rows of sequences lie in arrays: the axes in front of their features.
struct Layout {
    std::ptrdiff_t batch;
    bool batch_first;
    bool has_batch;

    Shape axes(std::ptrdiff_t rows) const {
        if (!has_batch) return {rows};
        return batch_first ? Shape{batch, rows} : Shape{rows, batch};
    }
    /// Of a hop, where there is no axis for a single row.
    Shape hop_axes(std::int64_t rows) const {
        if (rows != 1) return axes(static_cast<std::ptrdiff_t>(rows));
        return has_batch ? Shape{batch} : Shape{};
    }
    std::ptrdiff_t rows_of(const Shape& shape) const { return shape[has_batch && batch_first ? 1 : 0]; }
    template <class T>
    ModelRows<T> view(T* data, std::int64_t rows, std::ptrdiff_t size) const {
        if (batch_first) return {data, size, static_cast<std::ptrdiff_t>(rows) * size};
        return {data, batch * size, size};
    }
};

// Rows of every input of a model: arrays, or of tokens the floats that are made of them.
class GivenRows {
public:
    /// `values` are as many as the model has inputs; their axes are one of `expected`, and the same of all. TypeError
    /// or ValueError that names the input.
    GivenRows(const Network& model, PyObject* const* values, const std::vector<Shape>& expected);

    const Shape& axes() const { return axes_; }
    const float* data(std::size_t input) const { return data_[input]; }
    /// After code of another argument's own has run, see FloatArray.
    void expect_unchanged() const;

private:
    std::vector<FloatArray> arrays_;
    std::vector<std::ptrdiff_t> sizes_;    // of those, when they were read
    std::vector<std::vector<float>> tokens_;
    std::vector<const float*> data_;
    Shape axes_;
};

/// Whether an array is plain float32 of these axes and features.
bool has_plain_rows(PyObject* value, const Shape& axes, std::ptrdiff_t size);
/// The inputs as a signature has them.
std::string names_of(const Network& model);
/// UnsupportedError that names the node where rows cannot be taken one by one.
void expect_streams(const Network& model);

/// New arrays for so many rows of each output, of several a tuple; `y` gets where they lie. `has_single` says of an
/// output's number that it has no axis for its single row; with `may_lack`, None stands for no rows.
template <class HasSingle>
py::object new_answers(const Network& model, const Layout& layout, const std::vector<std::int64_t>& rows, bool may_lack,
                       const HasSingle& has_single, std::vector<ModelRows<float>>& y) {
    py::object only;
    py::tuple all(rows.size() > 1 ? rows.size() : 0);
    for (std::size_t o = 0; o < rows.size(); ++o) {
        const std::ptrdiff_t size = model.output_size(o);
        float* data = nullptr;
        py::object answer = py::none();
        if (rows[o] > 0 || !may_lack) {
            Shape shape = has_single(o) ? layout.hop_axes(rows[o]) : layout.axes(to_size(rows[o]));
            shape.push_back(size);
            answer = new_array(shape);
            data = data_of(answer);
        }
        y[o] = layout.view(data, rows[o], size);
        rows.size() > 1 ? static_cast<void>(all[o] = answer) : static_cast<void>(only = answer);
    }
    return rows.size() > 1 ? py::object(all) : only;
}
/// In place of these, `out` with a hop's usual rows: of one output an array, of several a tuple or list of arrays that
/// do not overlap, all exactly right as for checked_out. TypeError or ValueError.
void read_outs(const Network& model, const Layout& layout, const Shape& axes, PyObject* out,
               std::vector<ModelRows<float>>& y);

/// How many rows a sequence has had, and its state; and the state set to such a pair of one of the same model.
py::tuple snapshot_of(NetworkStream& stream, std::ptrdiff_t row);
void restore(NetworkStream& stream, std::ptrdiff_t row, std::int64_t rows_in, py::handle state);

/// A hop of each of many sequences, x (N, size), or (N, rows, size) of a hop of more rows, and of several inputs a
/// tuple of arrays. Returns what they answer, arranged alike, in `out` unless that is null; NaN stands for rows that
/// one lacks. ValueError, with all as it was, where one has more.
py::object step_rows(const Network& model, const std::vector<NetworkStream::StreamRow>& rows, py::handle x,
                     PyObject* out, ModelWorkspace& workspace);

class ModelStreamObject {
public:
    /// `owner` is the model's Python object.
    ModelStreamObject(py::object owner, const LoadedModel& model, std::ptrdiff_t batch, int num_threads);
    /// While it is in use.
    ModelStreamObject(const ModelStreamObject& other);
    ModelStreamObject& operator=(const ModelStreamObject&) = delete;

    const py::object& owner() const { return owner_; }
    const Network& model() const { return stream_->model(); }
    NetworkStream& stream() { return *stream_; }
    const Layout& layout() const { return layout_; }
    const Shape& step_axes() const { return step_axes_; }
    Turn& turn() { return turn_; }

    // Holds the stream for one call, as everything below expects.
    struct InUse : Turn::Held {
        explicit InUse(ModelStreamObject& stream) : Held(stream.turn(), Stream::InUse::kError) {}
    };

    /// ValueError after flush(), until reset() of all rows.
    void expect_open() const;
    void reset(const std::vector<std::ptrdiff_t>& rows);
    /// Makes `rows` the room for rows at a time.
    void set_block(std::ptrdiff_t rows);

    /// Where a step's inputs lie, to be filled in before it.
    std::vector<const float*>& inputs() { return inputs_; }
    py::object step(PyObject* out);
    py::object process(const GivenRows& rows);
    py::object flush();

private:
    void run(std::ptrdiff_t rows, bool is_end);
    void run_pieces(std::ptrdiff_t rows, bool is_end, Checkpoint* checkpoint);

    py::object owner_;
    int num_threads_;
    std::unique_ptr<NetworkStream> stream_;
    Layout layout_;
    Shape step_axes_, answer_axes_;
    // Of the call in hand.
    std::vector<const float*> inputs_;
    std::vector<ModelRows<const float>> x_;
    std::vector<ModelRows<float>> y_;
    std::vector<std::int64_t> rows_, counts_;
    Turn turn_;
};

}    // namespace fusedcell::bindings

namespace pybind11::detail {

template <>
class type_caster<fusedcell::bindings::ModelStreamObject>
    : public fusedcell::bindings::InitialisedCaster<type_caster_base<fusedcell::bindings::ModelStreamObject>> {};

template <>
class type_caster<fusedcell::LoadedModel>
    : public fusedcell::bindings::InitialisedCaster<type_caster_base<fusedcell::LoadedModel>> {};

}    // namespace pybind11::detail
