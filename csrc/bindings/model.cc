// Model: rows as they are given, and whole sequences.
#include "bindings/model.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "bindings/arguments.h"
#include "bindings/bindings.h"
#include "bindings/files.h"
#include "bindings/long_call.h"

namespace fusedcell::bindings {
namespace {

std::string axes_text(const Shape& axes, std::ptrdiff_t size) {
    std::string text = "(";
    for (const std::ptrdiff_t axis : axes) {
        if (text.size() > 1) text += ", ";
        text += axis == kAnySteps ? "steps" : axis == kAnyBatch ? "batch" : std::to_string(axis);
    }
    if (size > 0) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    return text + (axes.size() + (size > 0 ? 1 : 0) == 1 ? ",)" : ")");
}

bool are_of(const Shape& axes, const Shape& expected) {
    return std::equal(axes.begin(), axes.end(), expected.begin(), expected.end(),
                      [](std::ptrdiff_t axis, std::ptrdiff_t wanted) { return wanted < 0 || axis == wanted; });
}

// Tokens as the floats that the model takes.
std::vector<float> to_floats(const std::vector<std::int64_t>& tokens, const Shape& shape, const ModelInput& input) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        if (tokens[i] >= 0 && tokens[i] < input.tokens) continue;
        Shape place(shape.size());
        auto rest = static_cast<std::ptrdiff_t>(i);
        for (std::size_t axis = shape.size(); axis-- > 0; rest /= shape[axis]) place[axis] = rest % shape[axis];
        throw py::value_error(input.name + ": expected tokens from 0 to " + std::to_string(input.tokens - 1) +
                              ", got " + std::to_string(tokens[i]) + (shape.empty() ? "" : " at " + to_text(place)));
    }
    return {tokens.begin(), tokens.end()};
}

py::object run(const LoadedModel& loaded, const py::tuple& values, py::handle lengths_value, py::handle num_threads) {
    const Network& model = *loaded.model;
    const int threads = read_num_threads(num_threads);
    if (values.size() != model.inputs().size()) {
        throw py::type_error("model(" + names_of(model) + "): expected " + std::to_string(model.inputs().size()) +
                             " positional arguments, got " + std::to_string(values.size()));
    }
    const bool batch_first = loaded.batch_first;
    const GivenRows given(model, &PyTuple_GET_ITEM(values.ptr(), 0),
                          {{kAnySteps}, batch_first ? Shape{kAnyBatch, kAnySteps} : Shape{kAnySteps, kAnyBatch}});
    const bool batched = given.axes().size() == 2;
    const std::ptrdiff_t batch = batched ? given.axes()[batch_first ? 0 : 1] : 1;
    const Layout layout{batch, batch_first, batched};
    const std::ptrdiff_t steps = layout.rows_of(given.axes());
    std::vector<std::int64_t> lengths;
    if (!lengths_value.is_none()) lengths = read_lengths(lengths_value, batch, steps);
    given.expect_unchanged();

    const std::vector<std::int64_t> rows = model.rows_out(steps);
    for (const std::int64_t length : std::set<std::int64_t>(lengths.begin(), lengths.end())) model.rows_out(length);
    const auto is_pooled = [&](std::size_t o) { return model.is_pooled(o); };
    std::vector<ModelRows<const float>> x(model.inputs().size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = layout.view(given.data(i), steps, model.inputs()[i].size);
    std::vector<ModelRows<float>> y(rows.size());
    py::object answers = new_answers(model, layout, rows, false, is_pooled, y);
    if (batch == 0) return answers;
    const double all = lengths.empty() ? static_cast<double>(steps) * static_cast<double>(batch)
                                       : std::accumulate(lengths.begin(), lengths.end(), 0.0);
    run_for(model.row_operations() * all, [&](Checkpoint* checkpoint) {
        NetworkStream::run_whole(loaded.model, x.data(), steps, batch, lengths.empty() ? nullptr : lengths.data(),
                                 y.data(), threads, checkpoint);
    });
    return answers;
}

}    // namespace

std::string names_of(const Network& model) {
    std::string names;
    for (const ModelInput& input : model.inputs()) names += (names.empty() ? "" : ", ") + input.name;
    return names;
}

GivenRows::GivenRows(const Network& model, PyObject* const* values, const std::vector<Shape>& expected) {
    for (std::size_t i = 0; i < model.inputs().size(); ++i) {
        const ModelInput& input = model.inputs()[i];
        const std::ptrdiff_t size = input.tokens > 0 ? 0 : input.size;
        Shape axes;
        std::vector<std::int64_t> tokens;
        if (size == 0) {
            std::tie(tokens, axes) = read_integers(values[i], input.name);
        } else {
            arrays_.emplace_back(values[i], input.name);
            axes = arrays_.back().shape();
            sizes_.push_back(arrays_.back().size());
        }
        const std::string got = to_text(axes);
        const bool has_features = size == 0 || (!axes.empty() && axes.back() == size);
        if (size > 0 && has_features) axes.pop_back();
        const auto is_expected = [&](const Shape& wanted) { return are_of(axes, wanted); };
        if (!has_features || !std::any_of(expected.begin(), expected.end(), is_expected)) {
            std::string text;
            std::vector<Shape> fitting = expected;
            for (Shape& wanted : fitting) {
                text += (text.empty() ? "" : " or ") + axes_text(wanted, size);
                if (size > 0) wanted.push_back(size);
            }
            if (size > 0 && has_features) axes.push_back(size);
            throw_shape_error(input.name, text, to_text(axes) + transposing(axes, fitting));
        }
        if (i > 0 && axes != axes_) {
            throw_shape_error(input.name, axes_text(axes_, size) + ", as many rows as '" + model.inputs()[0].name + "'",
                              got);
        }
        axes_ = axes;
        tokens_.push_back(to_floats(tokens, axes, input));
    }
    expect_unchanged();
    std::size_t array = 0;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
        data_.push_back(model.inputs()[i].tokens > 0 ? tokens_[i].data() : arrays_[array++].data());
    }
}

void GivenRows::expect_unchanged() const {
    for (std::size_t i = 0; i < arrays_.size(); ++i) arrays_[i].expect_unchanged(sizes_[i]);
}

bool has_plain_rows(PyObject* value, const Shape& axes, std::ptrdiff_t size) {
    if (!is_plain_float32(value)) return false;
    auto* array = reinterpret_cast<PyArrayObject*>(value);
    const npy_intp* dims = PyArray_DIMS(array);
    return static_cast<std::size_t>(PyArray_NDIM(array)) == axes.size() + 1 && dims[axes.size()] == size &&
           std::equal(axes.begin(), axes.end(), dims);
}

void read_outs(const Network& model, const Layout& layout, const Shape& axes, PyObject* out,
               std::vector<ModelRows<float>>& y) {
    const auto read = [&](std::size_t o, PyObject* value, const std::string& name) {
        const std::ptrdiff_t size = model.output_size(o);
        float* data = writeable_floats(value, name);
        if (!has_plain_rows(value, axes, size)) {
            Shape shape = axes;
            shape.push_back(size);
            FloatArray(value, name).expect_shape(shape);
        }
        y[o] = layout.view(data, model.hop_out(), size);
    };
    if (y.size() == 1) return read(0, out, "out");
    if ((!PyTuple_Check(out) && !PyList_Check(out)) ||
        static_cast<std::size_t>(PySequence_Fast_GET_SIZE(out)) != y.size()) {
        throw py::type_error("out: expected a tuple of " + std::to_string(y.size()) + " arrays, one an output, got " +
                             type_name(out));
    }
    for (std::size_t o = 0; o < y.size(); ++o) {
        PyObject** const items = PySequence_Fast_ITEMS(out);
        const std::string name = "out[" + std::to_string(o) + "]";
        read(o, items[o], name);
        const auto size = static_cast<std::size_t>(PyArray_SIZE(reinterpret_cast<PyArrayObject*>(items[o])));
        for (std::size_t other = 0; other < o; ++other) {
            if (!overlaps(reinterpret_cast<PyArrayObject*>(items[other]), y[o].data, size)) continue;
            throw py::value_error(name + ": expected memory of its own, got some of out[" + std::to_string(other) +
                                  "]");
        }
    }
}

void expect_streams(const Network& model) {
    const std::string& why_not = model.why_no_streams();
    if (why_not.empty()) return;
    throw_unsupported(("stream: " + why_not + ", so the model has no streams; call it instead").c_str());
}

void bind_model(py::module_& module) {
    py::class_<LoadedModel> type(module, "Model", py::is_final());
    refuse_pickling(type);
    const auto list_of = [](const auto& items, const auto& function) {
        py::list list;
        for (const auto& item : items) list.append(function(item));
        return list;
    };
    type.def(py::init([](const py::bytes& data, const std::string& isa) {
                 return std::make_unique<LoadedModel>(read_bytes(
                     data,
                     [&](const unsigned char* bytes, std::size_t size) { return load_network(bytes, size, isa); }));
             }),
             py::arg("data"), py::arg("isa") = "")
        .def("run", &run, py::arg("inputs"), py::arg("lengths") = py::none(), py::arg("num_threads") = 1)
        .def(
            "rows",
            [](const LoadedModel& m, py::handle steps) {
                const Integer number(steps, "steps");
                if (number.nearest() < 0 || number.nearest() > NetworkStream::kMostRows) {
                    throw py::value_error("steps: expected a number from 0 to 2**42, got " + number.text());
                }
                return m.model->rows_out(number.nearest());
            },
            py::arg("steps"))
        .def_property_readonly("inputs",
                               [=](const LoadedModel& m) {
                                   return list_of(m.model->inputs(), [](const ModelInput& input) {
                                       return py::make_tuple(input.name, input.size, input.tokens);
                                   });
                               })
        .def_property_readonly("outputs",
                               [=](const LoadedModel& m) {
                                   return list_of(m.model->outputs(), [&](const ModelOutput& output) {
                                       const auto index = static_cast<std::size_t>(&output - m.model->outputs().data());
                                       return py::make_tuple(output.name, m.model->value_size(output.value),
                                                             m.model->is_pooled(index));
                                   });
                               })
        .def_property_readonly("nodes",
                               [=](const LoadedModel& m) {
                                   return list_of(m.model->nodes(), [](const ModelNode& node) {
                                       const std::size_t nbytes = (node.operation ? node.operation->nbytes() : 0) +
                                                                  (node.layer ? node.layer->nbytes() : 0);
                                       return py::make_tuple(node.name, node.output_size, nbytes);
                                   });
                               })
        .def_property_readonly(
            "states",
            [](const LoadedModel& m) {
                py::list all;
                for (const ModelNode& node : m.model->nodes()) {
                    if (!node.layer) continue;
                    const NodeShape& shape = node.layer->shape();
                    all.append(py::make_tuple(node.name, shape.state_layers, shape.h_size, shape.c_size));
                }
                return all;
            })
        .def_property_readonly("why_no_streams", [](const LoadedModel& m) { return m.model->why_no_streams(); })
        .def_property_readonly("hop",
                               [](const LoadedModel& m) {
                                   expect_streams(*m.model);
                                   return py::make_tuple(m.model->hop_in(), m.model->hop_out());
                               })
        .def_property_readonly("delay",
                               [](const LoadedModel& m) {
                                   expect_streams(*m.model);
                                   return m.model->delay();
                               })
        .def_property_readonly("batch_first", [](const LoadedModel& m) { return m.batch_first; })
        .def_property_readonly("axes",
                               [](const LoadedModel& m) {
                                   py::dict all;
                                   for (const auto& [name, axes] : m.axes) {
                                       py::tuple items(axes.size());
                                       for (std::size_t i = 0; i < axes.size(); ++i) {
                                           items[i] = axes[i] == kBatchAxis  ? py::object(py::str("batch"))
                                                      : axes[i] == kTimeAxis ? py::object(py::str("time"))
                                                                             : py::object(py::int_(axes[i]));
                                       }
                                       all[py::str(name)] = items;
                                   }
                                   return all;
                               })
        .def_property_readonly("row_operations", [](const LoadedModel& m) { return m.model->row_operations(); })
        .def_property_readonly("nbytes", [](const LoadedModel& m) { return m.model->nbytes(); })
        .def_property_readonly("isa", [](const LoadedModel& m) { return std::string(m.model->kernels().isa); });
    module.def(
        "check_out",
        [](py::handle out, const std::string& name, const Shape& shape) {
            writeable_floats(out.ptr(), name);
            FloatArray(out, name).expect_shape(shape);
        },
        py::arg("out"), py::arg("name"), py::arg("shape"));
    module.def("transposing", &transposing, py::arg("got"), py::arg("fitting"));
}

}    // namespace fusedcell::bindings
