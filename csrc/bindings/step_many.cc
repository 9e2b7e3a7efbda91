// One step of many streams in one call. It is as hot as Stream.step, so the streams' objects are looked at in place.
#include <algorithm>
#include <optional>

#include "bindings/arguments.h"
#include "bindings/bindings.h"
#include "bindings/many_streams.h"
#include "bindings/model.h"
#include "bindings/thread_workspace.h"
#include "pack/sizes.h"

namespace fusedcell::bindings {
namespace {

py::object step_many(const Node& node, py::handle stream_values, py::handle x_value, const py::object& out,
                     py::handle num_threads) {
    const int threads = read_num_threads(num_threads);
    const py::tuple streams = checked_streams<Stream>(stream_values, "Stream", "layer",
                                                      [&](Stream& stream) { return &stream.node() == &node; });
    const Py_ssize_t size = PyTuple_GET_SIZE(streams.ptr());
    std::ptrdiff_t batch = 0;
    for (Py_ssize_t i = 0; i < size; ++i) batch = sum_of(batch, stream_at<Stream>(streams, i).batch());
    FloatArray x(x_value, "x");
    x.expect_shape({batch, node.shape().input_size});
    const RowsShape y_shape{true, batch, node.shape().output_size};
    py::object y = out.is_none() ? new_array(y_shape.dims()) : out;
    float* y_data = checked_out(y.ptr(), y_shape);
    auto* y_array = reinterpret_cast<PyArrayObject*>(y.ptr());
    bool x_is_apart = !overlaps(x.array(), y_data, y_shape.floats());
    for (Py_ssize_t i = 0; i < size; ++i) {
        States& states = stream_at<Stream>(streams, i).states();
        check_apart(y_array, states);
        x_is_apart = x_is_apart && !overlaps(x.array(), states);
    }
    if (!x_is_apart) x.detach();

    ThreadWorkspace workspace;
    std::vector<RowState>& rows = workspace.rows();
    rows.clear();
    rows.reserve(count_of<RowState>(batch));
    const StreamsInUse<Stream> in_use(streams);
    for (Py_ssize_t i = 0; i < size; ++i) {
        Stream& stream = stream_at<Stream>(streams, i);
        for (std::ptrdiff_t row = 0; row < stream.batch(); ++row) rows.push_back(stream.states().row(row));
    }
    const double operations = node.step_operations() * static_cast<double>(batch);
    std::optional<GilRelease> release;
    if (operations >= kOperationsToReleaseGil) release.emplace();
    node.step_rows(x.data(), y_data, rows.data(), batch, workspace.get(), threads);
    return y;
}

py::object step_many_of_model(const LoadedModel& loaded, py::handle stream_values, py::handle x, py::handle out) {
    const Network& model = *loaded.model;
    expect_streams(model);
    const py::tuple streams = checked_streams<ModelStreamObject>(
        stream_values, "ModelStream", "model", [&](ModelStreamObject& stream) { return &stream.model() == &model; });
    const Py_ssize_t size = PyTuple_GET_SIZE(streams.ptr());
    std::ptrdiff_t batch = 0;
    for (Py_ssize_t i = 0; i < size; ++i)
        batch = sum_of(batch, stream_at<ModelStreamObject>(streams, i).layout().batch);
    ThreadWorkspace workspace;
    std::vector<NetworkStream::StreamRow>& rows = workspace.stream_rows();
    rows.clear();
    rows.reserve(count_of<NetworkStream::StreamRow>(batch));
    const StreamsInUse<ModelStreamObject> in_use(streams);
    for (Py_ssize_t i = 0; i < size; ++i) stream_at<ModelStreamObject>(streams, i).expect_open();
    for (Py_ssize_t i = 0; i < size; ++i) {
        auto& object = stream_at<ModelStreamObject>(streams, i);
        object.set_block(static_cast<std::ptrdiff_t>(model.hop_in()));    // that of all
        for (std::ptrdiff_t row = 0; row < object.stream().batch(); ++row) rows.push_back({&object.stream(), row});
    }
    return step_rows(model, rows, x, out.is_none() ? nullptr : out.ptr(), workspace.model());
}

}    // namespace

py::object step_rows(const Network& model, const std::vector<NetworkStream::StreamRow>& rows, py::handle x_value,
                     PyObject* out, ModelWorkspace& workspace) {
    const Layout layout{static_cast<std::ptrdiff_t>(rows.size()), true, true};
    const std::size_t inputs = model.inputs().size();
    py::tuple values = py::make_tuple(x_value);
    if (inputs > 1) {
        const bool is_list = PyTuple_Check(x_value.ptr()) || PyList_Check(x_value.ptr());
        if (is_list) values = py::reinterpret_steal<py::tuple>(PySequence_Tuple(x_value.ptr()));
        if (!is_list || values.size() != inputs) {
            throw py::type_error("x: expected a tuple of " + std::to_string(inputs) + " arrays, one an input, got " +
                                 (is_list ? std::to_string(values.size()) : type_name(x_value)));
        }
    }
    const GivenRows given(model, &PyTuple_GET_ITEM(values.ptr(), 0), {layout.hop_axes(model.hop_in())});
    std::vector<ModelRows<const float>> x(inputs);
    for (std::size_t i = 0; i < inputs; ++i) x[i] = layout.view(given.data(i), model.hop_in(), model.inputs()[i].size);

    std::vector<std::int64_t> counts(model.outputs().size());
    std::vector<std::int64_t> room;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const std::int64_t rows_in = rows[i].stream->rows_in(rows[i].row);
        if (model.is_steady(rows_in)) continue;
        room.resize(model.num_counting());
        model.count_outputs(rows_in, model.hop_in(), false, room.data(), counts.data());
        const std::int64_t most = *std::max_element(counts.begin(), counts.end());
        if (most <= model.hop_out()) continue;
        throw py::value_error("x: the stream of row " + std::to_string(i) + " gives " + std::to_string(most) +
                              " rows at once now, because of padding, and not the usual " +
                              std::to_string(model.hop_out()) + "; let it take a step by itself first");
    }
    std::vector<ModelRows<float>> y(counts.size());
    if (out != nullptr) read_outs(model, layout, layout.hop_axes(model.hop_out()), out, y);
    std::fill(counts.begin(), counts.end(), model.hop_out());
    const py::object answers = out != nullptr
                                   ? py::reinterpret_borrow<py::object>(out)
                                   : new_answers(model, layout, counts, false, [](std::size_t) { return true; }, y);
    if (rows.empty()) return answers;
    std::optional<GilRelease> release;
    const double operations = model.row_operations() * static_cast<double>(layout.batch * model.hop_in());
    if (operations >= kOperationsToReleaseGil) release.emplace();
    NetworkStream::step_many(rows, x.data(), y.data(), counts.data(), workspace, model.hop_out());
    return answers;
}

void bind_step_many(py::module_& module) {
    module.def("step_many", &step_many, py::arg("stack"), py::arg("streams"), py::arg("x"), py::arg("out") = py::none(),
               py::arg("num_threads") = 1);
    module.def("step_many_of_model", &step_many_of_model, py::arg("model"), py::arg("streams"), py::arg("x"),
               py::arg("out") = py::none());
}

}    // namespace fusedcell::bindings
