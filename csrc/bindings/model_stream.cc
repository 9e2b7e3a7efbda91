// ModelStream: sequences that go through a model in any pieces. python/fusedcell/model_stream.py has what is not hot.
#include <pybind11/stl.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "bindings/arguments.h"
#include "bindings/bindings.h"
#include "bindings/fast_method.h"
#include "bindings/long_call.h"
#include "bindings/model.h"

namespace fusedcell::bindings {

ModelStreamObject::ModelStreamObject(py::object owner, const LoadedModel& model, std::ptrdiff_t batch, int num_threads)
    : owner_(std::move(owner)),
      num_threads_(num_threads),
      stream_(std::make_unique<NetworkStream>(model.model, batch, static_cast<std::ptrdiff_t>(model.model->hop_in()))),
      layout_{batch, model.batch_first, batch > 1},
      step_axes_(layout_.hop_axes(model.model->hop_in())),
      answer_axes_(layout_.hop_axes(model.model->hop_out())),
      inputs_(model.model->inputs().size()),
      x_(inputs_.size()),
      y_(model.model->outputs().size()),
      rows_(y_.size()),
      counts_(y_.size()) {}

ModelStreamObject::ModelStreamObject(const ModelStreamObject& other)
    : owner_(other.owner_),
      num_threads_(other.num_threads_),
      stream_(std::make_unique<NetworkStream>(*other.stream_)),
      layout_(other.layout_),
      step_axes_(other.step_axes_),
      answer_axes_(other.answer_axes_),
      inputs_(other.inputs_),
      x_(other.x_),
      y_(other.y_),
      rows_(other.rows_),
      counts_(other.counts_) {}

void ModelStreamObject::expect_open() const {
    if (stream_->has_ended())
        throw py::value_error("stream: its rows have ended, by flush(); reset() begins other sequences");
}

void ModelStreamObject::reset(const std::vector<std::ptrdiff_t>& rows) {
    std::vector<bool> chosen(static_cast<std::size_t>(layout_.batch));
    for (const std::ptrdiff_t row : rows) chosen[static_cast<std::size_t>(row)] = true;
    if (std::find(chosen.begin(), chosen.end(), false) == chosen.end()) return stream_->reset();
    expect_open();
    for (const std::ptrdiff_t row : rows) stream_->reset_row(row);
}

void ModelStreamObject::set_block(std::ptrdiff_t rows) {
    if (rows == stream_->block()) return;
    auto stream = std::make_unique<NetworkStream>(stream_->shared_model(), layout_.batch, rows);
    for (std::ptrdiff_t row = 0; row < layout_.batch; ++row) {
        std::vector<float> state(stream_->state_floats(stream_->rows_in(row)));
        stream_->get_state(row, state.data());
        stream->set_state(row, stream_->rows_in(row), state.data());
    }
    stream_ = std::move(stream);
}

py::object ModelStreamObject::step(PyObject* out) {
    expect_open();
    const std::int64_t hop = model().hop_in();
    const std::int64_t usual = model().hop_out();
    if (out != nullptr) read_outs(model(), layout_, answer_axes_, out, y_);
    stream_->count(static_cast<std::ptrdiff_t>(hop), false, rows_.data());
    const bool is_usual = std::all_of(rows_.begin(), rows_.end(), [&](std::int64_t rows) { return rows == usual; });
    py::object answers;
    if (out != nullptr && is_usual) {
        answers = py::reinterpret_borrow<py::object>(out);
    } else {
        answers = new_answers(model(), layout_, rows_, true, [&](std::size_t o) { return rows_[o] == usual; }, y_);
    }
    for (std::size_t i = 0; i < x_.size(); ++i) x_[i] = layout_.view(inputs_[i], hop, model().inputs()[i].size);
    run(static_cast<std::ptrdiff_t>(hop), false);
    return answers;
}

py::object ModelStreamObject::process(const GivenRows& given) {
    expect_open();
    // So many rows of all sequences at a time that reading the weights once for them costs little.
    constexpr std::ptrdiff_t kRowsAtOnce = 256;
    Layout layout = layout_;
    layout.has_batch = given.axes().size() == 2;
    const std::ptrdiff_t rows = layout.rows_of(given.axes());
    std::ptrdiff_t block = stream_->block();
    while (block < rows && 2 * block * layout.batch <= kRowsAtOnce) block *= 2;
    set_block(block);
    stream_->count(rows, false, rows_.data());
    py::object answers = new_answers(model(), layout, rows_, false, [](std::size_t) { return false; }, y_);
    for (std::size_t i = 0; i < x_.size(); ++i) x_[i] = layout.view(given.data(i), rows, model().inputs()[i].size);
    run(rows, false);
    return answers;
}

py::object ModelStreamObject::flush() {
    expect_open();
    for (std::ptrdiff_t row = 0; row < stream_->batch(); ++row) model().rows_out(stream_->rows_in(row));
    stream_->count(0, true, rows_.data());
    py::object answers = new_answers(model(), layout_, rows_, false, [](std::size_t) { return false; }, y_);
    run(0, true);
    return answers;
}

void ModelStreamObject::run(std::ptrdiff_t rows, bool is_end) {
    const auto most = static_cast<double>(is_end ? *std::max_element(rows_.begin(), rows_.end()) : rows);
    run_for(model().row_operations() * most * static_cast<double>(layout_.batch), [&](Checkpoint* checkpoint) {
        std::unique_ptr<NetworkStream> before;
        if (checkpoint != nullptr) before = std::make_unique<NetworkStream>(*stream_);
        run_pieces(rows, is_end, checkpoint);
        if (checkpoint != nullptr && checkpoint->stopped()) stream_.swap(before);
    });
}

void ModelStreamObject::run_pieces(std::ptrdiff_t rows, bool is_end, Checkpoint* checkpoint) {
    if (is_end) return stream_->flush(y_.data(), counts_.data(), num_threads_);
    for (std::ptrdiff_t count = 0; rows > 0; rows -= count) {
        count = std::min(rows, stream_->block());
        stream_->process(x_.data(), count, y_.data(), counts_.data(), num_threads_);
        for (ModelRows<const float>& x : x_) x.data += count * x.step_stride;
        for (std::size_t o = 0; o < y_.size(); ++o) {
            y_[o].data += static_cast<std::ptrdiff_t>(counts_[o]) * y_[o].step_stride;
        }
        if (checkpoint == nullptr) continue;
        checkpoint->pass(model().row_operations() * static_cast<double>(count * layout_.batch));
        if (checkpoint->stopped()) return;
    }
}

namespace {

// The inputs of a call are its positional arguments, which `out` may follow. Returns that, or null.
PyObject* read_call(const Network& model, const char* name, bool takes_out, PyObject* const* args, Py_ssize_t count,
                    PyObject* keywords) {
    const auto signature = [&] {
        return std::string(name) + "(" + names_of(model) + (takes_out ? ", out=None)" : ")") + ": expected ";
    };
    const auto inputs = static_cast<Py_ssize_t>(model.inputs().size());
    const bool has_out = takes_out && count == inputs + 1;
    if (count != inputs && !has_out) {
        const std::string expected = std::to_string(inputs) + (takes_out ? " or " + std::to_string(inputs + 1) : "");
        throw py::type_error(signature() + expected + " positional arguments, got " + std::to_string(count));
    }
    PyObject* out = has_out ? args[inputs] : nullptr;
    for (Py_ssize_t i = 0; keywords != nullptr && i < PyTuple_GET_SIZE(keywords); ++i) {
        PyObject* keyword = PyTuple_GET_ITEM(keywords, i);
        if (!takes_out || PyUnicode_CompareWithASCIIString(keyword, "out") != 0) {
            throw py::type_error(signature() + "no argument named " + py::repr(keyword).cast<std::string>());
        }
        if (has_out) throw py::type_error(signature() + "one value for 'out', got two");
        out = args[count + i];
    }
    return out == Py_None ? nullptr : out;
}

template <py::object (*kMethod)(ModelStreamObject&, PyObject* const*, Py_ssize_t, PyObject*)>
PyMethodDef input_method(const char* name, const char* doc) noexcept {
    PyObject* (*call)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*) =
        [](PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) -> PyObject* {
        try {
            return kMethod(instance_of<ModelStreamObject>(self), args, count, keywords).release().ptr();
        } catch (const std::exception&) {
            return set_python_error();
        }
    };
    return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call)), METH_FASTCALL | METH_KEYWORDS,
            doc};
}

py::object step(ModelStreamObject& stream, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    const Network& model = stream.model();
    PyObject* out = read_call(model, "step", true, args, count, keywords);
    bool is_plain = true;
    for (std::size_t i = 0; i < model.inputs().size(); ++i) {
        const ModelInput& input = model.inputs()[i];
        is_plain = is_plain && input.tokens == 0 && has_plain_rows(args[i], stream.step_axes(), input.size);
    }
    std::optional<GivenRows> given;
    if (!is_plain) given.emplace(model, args, std::vector<Shape>{stream.step_axes()});
    const ModelStreamObject::InUse in_use(stream);
    for (std::size_t i = 0; i < model.inputs().size(); ++i) {
        auto* array = reinterpret_cast<PyArrayObject*>(args[i]);
        stream.inputs()[i] = given ? given->data(i) : static_cast<const float*>(PyArray_DATA(array));
    }
    return stream.step(out);
}

PyMethodDef step_definition = input_method<&step>(
    "step",
    "step($self, /, *inputs, out=None)\n--\n\n"
    "The next hop of rows, usually one: an array for each of the model's inputs, (size,) for a stream of one row,\n"
    "else (batch_size, size); of tokens integers without the last axis. Of a model whose hop is more than one row,\n"
    "the rows are a further axis, where calls of the model have it. `out` may also come by position, after them.\n\n"
    "Returns what the model answers in the same arrangement, a tuple where it has several outputs, and None for an\n"
    "output that has no answer yet. With `out`, an array, or a tuple of them, float32 and C-contiguous and just\n"
    "right for a hop's usual rows, these are written there, and with float32 C-contiguous inputs nothing is\n"
    "allocated. Where padding makes the first answers other numbers of rows, they come as new arrays with an axis\n"
    "for rows. Rows that were reset later than others, and have no answer yet, are NaN.\n\n"
    "Raises TypeError or ValueError, and leaves the state as it was, if an argument is not as described;\n"
    "RuntimeError if another thread is using the stream.");

py::object process(ModelStreamObject& stream, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    read_call(stream.model(), "process", false, args, count, keywords);
    Layout layout = stream.layout();
    std::vector<Shape> expected;
    if (!layout.has_batch) expected.push_back(layout.axes(kAnySteps));
    layout.has_batch = true;
    expected.push_back(layout.axes(kAnySteps));
    const GivenRows given(stream.model(), args, expected);
    const ModelStreamObject::InUse in_use(stream);
    return stream.process(given);
}

PyMethodDef process_definition = input_method<&process>(
    "process",
    "process($self, /, *inputs)\n--\n\n"
    "Any number of rows: an array for each of the model's inputs, arranged as calls of the model have them, or\n"
    "(T, size) for one row. Returns the answers that there are now and were not before, with the bits of `step` and\n"
    "of the call, a tuple where the model has several outputs. If a signal handler raises meanwhile, as Ctrl-C does,\n"
    "so does the call, within some 0.1 s and with the state as it was.");

constexpr Signature kFlush{"flush()", {}, 0};

py::object flush(py::handle self, const Arguments&) {
    auto& stream = instance_of<ModelStreamObject>(self.ptr());
    const ModelStreamObject::InUse in_use(stream);
    return stream.flush();
}

PyMethodDef flush_definition = fast_method<kFlush, &flush>(
    "flush",
    "flush($self, /)\n--\n\n"
    "The rows have ended: the answers that are left, for which padding stands for further rows, as `process` gives\n"
    "them. Only `reset` may follow. Raises ValueError, as the call does, where what comes together in the model has\n"
    "other numbers of rows for a sequence of this length.");

constexpr Signature kReset{"reset(rows=None)", {"rows"}, 0};

py::object reset(py::handle self, const Arguments& values) {
    auto& stream = instance_of<ModelStreamObject>(self.ptr());
    const std::ptrdiff_t batch = stream.layout().batch;
    std::vector<std::ptrdiff_t> rows(static_cast<std::size_t>(batch));
    std::iota(rows.begin(), rows.end(), 0);
    if (values[0] != nullptr && values[0] != Py_None) read_rows(values[0], "rows", -batch, batch, rows);
    const ModelStreamObject::InUse in_use(stream);
    stream.reset(rows);
    return py::none();
}

PyMethodDef reset_definition = fast_method<kReset, &reset>(
    "reset",
    "reset($self, /, rows=None)\n--\n\n"
    "Begins other sequences: in every row, or in the given row numbers, or where a boolean mask is true.");

py::object reorder(py::handle self, const Arguments& values) {
    auto& object = instance_of<ModelStreamObject>(self.ptr());
    const std::vector<std::ptrdiff_t> rows = read_order(values[0], object.layout().batch);
    const ModelStreamObject::InUse in_use(object);
    object.expect_open();
    object.stream().reorder(rows);
    return py::none();
}

PyMethodDef reorder_definition = fast_method<kReorder, &reorder>("reorder", kReorderDoc);

py::list snapshot(ModelStreamObject& object) {
    const ModelStreamObject::InUse in_use(object);
    object.expect_open();
    NetworkStream& stream = object.stream();
    py::list rows;
    for (std::ptrdiff_t row = 0; row < stream.batch(); ++row) {
        rows.append(snapshot_of(stream, row));
    }
    return rows;
}

std::size_t state_floats(const NetworkStream& stream, std::int64_t rows_in) {
    if (rows_in >= 0 && rows_in <= NetworkStream::kMostRows) return stream.state_floats(rows_in);
    throw py::value_error("data: expected counts of rows from 0 to 2**42, got " + std::to_string(rows_in));
}

void restore_row(ModelStreamObject& stream, std::ptrdiff_t row, std::int64_t rows_in, py::handle state) {
    if (row < 0 || row >= stream.layout().batch) throw py::index_error("row: expected one of the stream's");
    const ModelStreamObject::InUse in_use(stream);
    stream.expect_open();
    restore(stream.stream(), row, rows_in, state);
}

std::unique_ptr<ModelStreamObject> make_stream(const py::object& owner, py::handle batch_size, py::handle num_threads) {
    if (py::isinstance<ModelStreamObject>(owner)) {
        auto& other = owner.cast<ModelStreamObject&>();
        const ModelStreamObject::InUse in_use(other);
        return std::make_unique<ModelStreamObject>(other);
    }
    if (!py::isinstance<LoadedModel>(owner)) {
        throw py::type_error(
            "ModelStream: made by model.stream(batch_size), model.stream_from_bytes(data) or stream.copy()");
    }
    const auto& model = owner.cast<const LoadedModel&>();
    const int threads = read_num_threads(num_threads);
    const std::ptrdiff_t batch = read_count(batch_size, "batch_size");
    expect_streams(*model.model);
    return std::make_unique<ModelStreamObject>(owner, model, batch, threads);
}

}    // namespace

py::tuple snapshot_of(NetworkStream& stream, std::ptrdiff_t row) {
    const py::object state = new_array({to_size(stream.state_floats(stream.rows_in(row)))});
    stream.get_state(row, data_of(state));
    return py::make_tuple(stream.rows_in(row), state);
}

void restore(NetworkStream& stream, std::ptrdiff_t row, std::int64_t rows_in, py::handle value) {
    const FloatArray state(value, "state");
    state.expect_shape({to_size(state_floats(stream, rows_in))});
    stream.set_state(row, rows_in, state.data());
}

void bind_model_stream(py::module_& module) {
    py::class_<ModelStreamObject> stream(module, "ModelStream");
    refuse_pickling(stream);
    stream
        .def(py::init(&make_stream), py::arg("model") = py::none(), py::arg("batch_size") = 1,
             py::arg("num_threads") = 1)
        .def("_snapshot", &snapshot)
        .def(
            "_state_floats",
            [](ModelStreamObject& s, std::int64_t rows_in) { return state_floats(s.stream(), rows_in); },
            py::arg("rows_in"))
        .def("_restore", &restore_row, py::arg("row"), py::arg("rows_in"), py::arg("state"))
        .def_property_readonly("_layer_floats", [](ModelStreamObject& s) { return s.stream().num_states(); })
        .def_property_readonly("_model", &ModelStreamObject::owner)
        .def_property_readonly(
            "batch_size", [](const ModelStreamObject& s) { return s.layout().batch; }, "Rows that step together.")
        .def_property_readonly(
            "batch_first", [](const ModelStreamObject& s) { return s.layout().batch_first; },
            "Whether blocks are (batch_size, T, ...), as the model's inputs are, rather than\n"
            "(T, batch_size, ...).")
        .def_property_readonly(
            "nbytes", [](ModelStreamObject& s) { return s.stream().nbytes(); },
            "Bytes of the state and of the memory of steps.");
    for (PyMethodDef* method :
         {&step_definition, &process_definition, &flush_definition, &reset_definition, &reorder_definition}) {
        add_method(stream, *method);
    }
}

}    // namespace fusedcell::bindings
