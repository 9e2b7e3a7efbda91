// Training of one layer in one direction: argument checks. fusedcell.torch is the caller.
#include "model/training.h"

#include <optional>
#include <tuple>

#include "bindings/arguments.h"
#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/long_call.h"
#include "bindings/thread_workspace.h"
#include "cpu/dispatch.h"
#include "model/names.h"

namespace fusedcell::bindings {
namespace {

// A sequence (T, B, size), in place where its last axis is contiguous.
class Sequence {
public:
    Sequence(py::handle value, const std::string& name) {
        auto* array = reinterpret_cast<PyArrayObject*>(value.ptr());
        const bool is_in_place = PyArray_Check(value.ptr()) && PyArray_TYPE(array) == NPY_FLOAT32 &&
                                 PyArray_ISBEHAVED_RO(array) && PyArray_NDIM(array) == 3 &&
                                 (PyArray_STRIDE(array, 2) == kFloat || PyArray_DIM(array, 2) == 1) &&
                                 PyArray_STRIDE(array, 0) % kFloat == 0 && PyArray_STRIDE(array, 1) % kFloat == 0;
        if (is_in_place) {
            owner_ = py::reinterpret_borrow<py::object>(value);
        } else {
            const FloatArray copy(value, name);
            if (copy.ndim() != 3) throw_shape_error(name, "(steps, batch, size)", to_text(copy.shape()));
            owner_ = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(copy.array()));
        }
    }
    std::ptrdiff_t dim(int axis) const { return PyArray_DIM(array(), axis); }
    Shape shape() const { return {dim(0), dim(1), dim(2)}; }
    SequenceView<float> view() const {
        return {static_cast<float*>(PyArray_DATA(array())), PyArray_STRIDE(array(), 0) / kFloat,
                PyArray_STRIDE(array(), 1) / kFloat};
    }
    SequenceView<const float> const_view() const {
        const SequenceView<float> v = view();
        return {v.data, v.step_stride, v.row_stride};
    }

private:
    static constexpr npy_intp kFloat = sizeof(float);
    PyArrayObject* array() const { return reinterpret_cast<PyArrayObject*>(owner_.ptr()); }
    py::object owner_;
};

// An array of this shape, or nothing.
class Optional {
public:
    Optional(py::handle value, const char* name, const Shape& shape) {
        if (value.is_none()) return;
        array_.emplace(value, name);
        array_->expect_shape(shape);
    }
    const float* data() const { return array_ ? array_->data() : nullptr; }

private:
    std::optional<FloatArray> array_;
};

// What is drawn in a run: a seed, the first of the run's streams, and the rates of recurrent dropout and of zoneout of
// h and c, of which `expects` asks for the mean. Or nothing.
struct Random {
    static constexpr std::uint32_t kRecurrentDropout = 1, kZoneoutOfH = 2, kZoneoutOfC = 3;    // 0: between layers

    explicit Random(py::handle value) {
        if (value.is_none()) return;
        const auto [seed, stream, dropout, of_h, of_c, expects_mean] =
            value.cast<std::tuple<std::uint64_t, std::uint32_t, double, double, double, bool>>();
        recurrent_dropout = {seed, stream + kRecurrentDropout, dropout};
        zoneout_h = {seed, stream + kZoneoutOfH, of_h};
        zoneout_c = {seed, stream + kZoneoutOfC, of_c};
        expects = expects_mean;
    }
    Draws recurrent_dropout, zoneout_h, zoneout_c;
    bool expects = false;
};

// What both calls take.
struct Layer {
    Layer(const std::string& kind_name, py::handle x_value, py::handle h_value, py::handle c_value, py::handle ih,
          py::handle hh, py::handle input_bias, py::handle recurrent_bias, py::handle hr, py::handle lengths_value,
          py::handle mask_value, py::handle resets_value, bool reverse, py::handle random_value, const std::string& isa)
        : table(select_tier(isa)),
          kind(checked_kind(kind_name, table)),
          x(x_value, "x"),
          weight_ih(ih, "weight_ih"),
          weight_hh(hh, "weight_hh"),
          rows(weight_hh.ndim() == 2 ? weight_hh.dim(0) : 0),
          units(rows / gates_of(kind)),
          outputs(weight_hh.ndim() == 2 ? weight_hh.dim(1) : 0),
          h_shape{x.dim(1), outputs},
          c_shape{x.dim(1), units},
          h_0(h_value, "h_0", h_shape),
          c_0(c_value, "c_0", c_shape),
          bias_ih(input_bias, "bias_ih", {rows}),
          bias_hh(recurrent_bias, "bias_hh", {rows}),
          weight_hr(hr, "weight_hr", {outputs, units}),
          random(random_value) {
        weight_hh.expect_shape({gates_of(kind) * units, weight_hr.data() == nullptr ? units : outputs});
        weight_ih.expect_shape({rows, x.dim(2)});
        if (!lengths_value.is_none()) lengths = read_lengths(lengths_value, x.dim(1), x.dim(0));
        const Shape steps{x.dim(0), x.dim(1)};
        if (!mask_value.is_none()) mask = read_mask(mask_value, steps, "mask");
        if (!resets_value.is_none()) resets = read_mask(resets_value, steps, "resets");
        run.kind = kind;
        run.reverse = reverse;
        run.steps = x.dim(0);
        run.batch = x.dim(1);
        run.inputs = x.dim(2);
        run.units = units;
        run.outputs = outputs;
        run.x = x.const_view();
        run.weight_ih = weight_ih.data();
        run.weight_hh = weight_hh.data();
        run.weight_hr = weight_hr.data();
        run.bias_ih = bias_ih.data();
        run.bias_hh = bias_hh.data();
        run.h_0 = h_0.data();
        run.c_0 = c_0.data();
        run.lengths = lengths_value.is_none() ? nullptr : lengths.data();
        run.mask = mask.get();
        run.resets = resets.get();
        run.recurrent_dropout = random.recurrent_dropout;
        run.zoneout_h = random.zoneout_h;
        run.zoneout_c = random.zoneout_c;
        run.expects_zoneout = random.expects;
    }
    static CellKind checked_kind(const std::string& name, const KernelTable& table) {
        const std::optional<CellKind> kind = kind_from_name(name);
        if (!kind || !can_train(*kind, table)) throw py::value_error("kind: '" + name + "' cannot be trained");
        return *kind;
    }
    Shape gates_shape() const { return sequence(gate_floats(kind, units, table)); }
    Shape sequence(std::ptrdiff_t size) const { return {run.steps, run.batch, size}; }
    bool leaves_out() const { return run.lengths != nullptr || run.mask != nullptr; }

    const KernelTable& table;
    CellKind kind;
    Sequence x;
    FloatArray weight_ih;
    FloatArray weight_hh;
    std::ptrdiff_t rows;
    std::ptrdiff_t units;
    std::ptrdiff_t outputs;
    Shape h_shape;
    Shape c_shape;
    Optional h_0;
    Optional c_0;
    Optional bias_ih;
    Optional bias_hh;
    Optional weight_hr;
    Random random;
    std::vector<std::int64_t> lengths;
    std::unique_ptr<bool[]> mask;
    std::unique_ptr<bool[]> resets;
    TrainingRun run{};
};

// Returns y, h_n, c_n, and what train_backward takes as `gates`, `raw` and `c`; None for what there is not. Without
// `saves` there are neither gates nor raw states, which are made again on the way back.
py::tuple train_forward(const std::string& kind, py::handle x, py::handle h_0, py::handle c_0, py::handle weight_ih,
                        py::handle weight_hh, py::handle bias_ih, py::handle bias_hh, py::handle weight_hr,
                        py::handle lengths, py::handle mask, py::handle resets, bool reverse, py::handle random,
                        bool saves, py::handle num_threads, const std::string& isa) {
    const int threads = read_num_threads(num_threads);
    Layer layer(kind, x, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, lengths, mask, resets, reverse,
                random, isa);
    TrainingRun& run = layer.run;

    const Shape outputs = layer.sequence(layer.outputs);
    const py::object y = run.lengths == nullptr ? new_array(outputs) : new_zeros(outputs);
    const py::object h_n = new_array(layer.h_shape);
    py::object c_n = py::none();
    py::object gates = py::none();
    py::object raw = py::none();
    py::object c = py::none();
    if (saves && layer.gates_shape().back() > 0) {
        gates = new_array(layer.gates_shape());
        run.gates = data_of(gates);
    }
    if (saves && raw_of(run) != RawState::none) {
        raw = new_array(layer.sequence(layer.units));
        run.raw = data_of(raw);
    }
    if (layer.kind == CellKind::kLstm) {
        c = new_array(layer.sequence(layer.units));
        c_n = new_array(layer.c_shape);
        run.c = data_of(c);
    }
    run.y = {data_of(y), run.batch * layer.outputs, layer.outputs};
    ThreadWorkspace workspace;
    run_for(operations_of(run), [&](Checkpoint* checkpoint) {
        run_forward(run, data_of(h_n), c_n.is_none() ? nullptr : data_of(c_n), layer.table, workspace.training(),
                    threads, checkpoint);
    });
    return py::make_tuple(y, h_n, c_n, gates, raw, c);
}

// Units of a layer whose recurrent matrix has so many rows, floats of a row of the gates that train_forward saves, and
// whether it saves raw states.
py::tuple saved_sizes(const std::string& kind_name, std::ptrdiff_t rows, bool is_projected, double zoneout_of_h,
                      double zoneout_of_c, const std::string& isa) {
    const KernelTable& table = select_tier(isa);
    const CellKind kind = Layer::checked_kind(kind_name, table);
    const float projection = 0.0F;
    TrainingRun run{};
    run.kind = kind;
    run.weight_hr = is_projected ? &projection : nullptr;
    run.zoneout_h.rate = zoneout_of_h;
    run.zoneout_c.rate = zoneout_of_c;
    const std::ptrdiff_t units = rows / gates_of(kind);
    return py::make_tuple(units, gate_floats(kind, units, table), raw_of(run) != RawState::none);
}

// Returns the loss's derivatives by x, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh and weight_hr, None for what is
// not in `wanted`, of as many bools, or is not there.
py::tuple train_backward(const std::string& kind, py::handle dy, py::handle dh_n, py::handle dc_n, py::handle y,
                         py::handle gates, py::handle raw, py::handle c, py::handle x, py::handle h_0, py::handle c_0,
                         py::handle weight_ih, py::handle weight_hh, py::handle bias_ih, py::handle bias_hh,
                         py::handle weight_hr, py::handle lengths, py::handle mask, py::handle resets, bool reverse,
                         py::handle random, const py::sequence& wanted, py::handle num_threads,
                         const std::string& isa) {
    const int threads = read_num_threads(num_threads);
    constexpr std::size_t kWanted = 8;
    if (wanted.size() != kWanted)
        throw py::value_error("wanted: expected 8 bools, got " + std::to_string(wanted.size()));
    Layer layer(kind, x, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, lengths, mask, resets, reverse,
                random, isa);
    TrainingRun& run = layer.run;
    const Shape outputs = layer.sequence(layer.outputs);
    const Shape states = layer.sequence(layer.units);
    const Sequence outputs_of_run(y, "y");
    if (outputs_of_run.shape() != outputs) throw_shape_error("y", to_text(outputs), to_text(outputs_of_run.shape()));
    run.y = outputs_of_run.view();
    const Optional saved_gates(gates, "gates", layer.gates_shape());
    const Optional saved_raw(raw, "raw", states);
    const Optional saved_c(c, "c", states);
    const bool is_lstm = layer.kind == CellKind::kLstm;
    if ((saved_c.data() == nullptr) == is_lstm) throw py::value_error("c: expected what train_forward has returned");
    run.gates = const_cast<float*>(saved_gates.data());
    run.raw = const_cast<float*>(saved_raw.data());
    run.c = const_cast<float*>(saved_c.data());

    TrainingGradients gradients{};
    std::optional<Sequence> by_y;
    if (!dy.is_none()) {
        by_y.emplace(dy, "dy");
        if (by_y->shape() != outputs) throw_shape_error("dy", to_text(outputs), to_text(by_y->shape()));
        gradients.y = by_y->const_view();
    }
    const Optional by_h(dh_n, "dh_n", layer.h_shape);
    const Optional by_c(dc_n, "dc_n", layer.c_shape);
    gradients.h_n = by_h.data();
    gradients.c_n = is_lstm ? by_c.data() : nullptr;

    const Shape shapes[kWanted] = {
        layer.sequence(run.inputs),  layer.h_shape, layer.c_shape, {layer.rows, run.inputs},
        {layer.rows, layer.outputs}, {layer.rows},  {layer.rows},  {layer.outputs, layer.units}};
    py::tuple results(kWanted);
    float* data[kWanted] = {};
    for (std::size_t i = 0; i < kWanted; ++i) {
        results[i] = py::none();
        if (!wanted[i].cast<bool>() || (i == 2 && !is_lstm)) continue;
        py::object array = i == 0 && layer.leaves_out() ? new_zeros(shapes[i]) : new_array(shapes[i]);
        data[i] = data_of(array);
        results[i] = std::move(array);
    }
    gradients.x = {data[0], run.batch * run.inputs, run.inputs};
    gradients.h_0 = data[1];
    gradients.c_0 = data[2];
    gradients.weight_ih = data[3];
    gradients.weight_hh = data[4];
    gradients.bias_ih = data[5];
    gradients.bias_hh = data[6];
    gradients.weight_hr = data[7];
    ThreadWorkspace workspace;
    run_for(2 * operations_of(run), [&](Checkpoint* checkpoint) {
        run_backward(run, gradients, layer.table, workspace.training(), threads, checkpoint);
    });
    return results;
}

// Of x (T, B, size), and of the derivative by the result likewise.
py::object dropout(py::handle x, std::uint64_t seed, std::uint32_t stream, double rate) {
    const FloatArray rows(x, "x");
    if (rows.ndim() != 3) throw_shape_error("x", "(steps, batch, size)", to_text(rows.shape()));
    py::object y = new_array(rows.shape());
    run_for(static_cast<double>(rows.size()), [&](Checkpoint* checkpoint) {
        run_dropout(rows.data(), data_of(y), rows.dim(0), rows.dim(1), rows.dim(2), {seed, stream, rate}, checkpoint);
    });
    return y;
}

// The arguments of a linear map: x (rows, inputs), weight (outputs, inputs) and the rows' y, (rows, outputs).
struct LinearArguments {
    LinearArguments(py::handle x_value, py::handle weight_value, const std::string& isa)
        : table(select_tier(isa)), x(x_value, "x"), weight(weight_value, "weight") {
        if (weight.ndim() != 2) throw_shape_error("weight", "(outputs, inputs)", to_text(weight.shape()));
        if (x.ndim() != 2) throw_shape_error("x", "(rows, inputs)", to_text(x.shape()));
        x.expect_shape({x.dim(0), weight.dim(1)});
        run = {x.dim(0), weight.dim(1), weight.dim(0), x.data(), weight.data(), nullptr};
    }
    Shape outputs() const { return {run.rows, run.outputs}; }
    double operations() const {
        return static_cast<double>(run.rows) * static_cast<double>(run.inputs) * static_cast<double>(run.outputs);
    }

    const KernelTable& table;
    FloatArray x;
    FloatArray weight;
    LinearTraining run{};
};

py::object linear_forward(py::handle x, py::handle weight, py::handle bias, py::handle num_threads,
                          const std::string& isa) {
    const int threads = read_num_threads(num_threads);
    LinearArguments arguments(x, weight, isa);
    const Optional added(bias, "bias", {arguments.run.outputs});
    arguments.run.bias = added.data();
    py::object y = new_array(arguments.outputs());
    ThreadWorkspace workspace;
    run_for(arguments.operations(), [&](Checkpoint* checkpoint) {
        run_linear_forward(arguments.run, data_of(y), arguments.table, workspace.training(), threads, checkpoint);
    });
    return y;
}

// Returns the loss's derivatives by x, weight and bias, None for what is not in `wanted`.
py::tuple linear_backward(py::handle dy, py::handle x, py::handle weight, const py::sequence& wanted,
                          py::handle num_threads, const std::string& isa) {
    const int threads = read_num_threads(num_threads);
    constexpr std::size_t kWanted = 3;
    if (wanted.size() != kWanted)
        throw py::value_error("wanted: expected 3 bools, got " + std::to_string(wanted.size()));
    const LinearArguments arguments(x, weight, isa);
    const FloatArray by_y(dy, "dy");
    by_y.expect_shape(arguments.outputs());
    const LinearTraining& run = arguments.run;
    const Shape shapes[kWanted] = {{run.rows, run.inputs}, {run.outputs, run.inputs}, {run.outputs}};
    py::tuple results(kWanted);
    float* data[kWanted] = {};
    for (std::size_t i = 0; i < kWanted; ++i) {
        results[i] = py::none();
        if (!wanted[i].cast<bool>()) continue;
        py::object array = new_array(shapes[i]);
        data[i] = data_of(array);
        results[i] = std::move(array);
    }
    const LinearGradients gradients{by_y.data(), data[0], data[1], data[2]};
    ThreadWorkspace workspace;
    run_for(2 * arguments.operations(), [&](Checkpoint* checkpoint) {
        run_linear_backward(run, gradients, arguments.table, workspace.training(), threads, checkpoint);
    });
    return results;
}

}    // namespace

void bind_training(py::module_& module) {
    module.def("linear_forward", &linear_forward, py::arg("x"), py::arg("weight"), py::arg("bias"),
               py::arg("num_threads"), py::arg("isa"));
    module.def("linear_backward", &linear_backward, py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("wanted"),
               py::arg("num_threads"), py::arg("isa"));
    module.def("dropout", &dropout, py::arg("x"), py::arg("seed"), py::arg("stream"), py::arg("rate"));
    module.def("saved_sizes", &saved_sizes, py::arg("kind"), py::arg("rows"), py::arg("is_projected"),
               py::arg("zoneout_of_h"), py::arg("zoneout_of_c"), py::arg("isa"));
    module.def("train_forward", &train_forward, py::arg("kind"), py::arg("x"), py::arg("h_0"), py::arg("c_0"),
               py::arg("weight_ih"), py::arg("weight_hh"), py::arg("bias_ih"), py::arg("bias_hh"), py::arg("weight_hr"),
               py::arg("lengths"), py::arg("mask"), py::arg("resets"), py::arg("reverse"), py::arg("random"),
               py::arg("saves"), py::arg("num_threads"), py::arg("isa"));
    module.def("train_backward", &train_backward, py::arg("kind"), py::arg("dy"), py::arg("dh_n"), py::arg("dc_n"),
               py::arg("y"), py::arg("gates"), py::arg("raw"), py::arg("c"), py::arg("x"), py::arg("h_0"),
               py::arg("c_0"), py::arg("weight_ih"), py::arg("weight_hh"), py::arg("bias_ih"), py::arg("bias_hh"),
               py::arg("weight_hr"), py::arg("lengths"), py::arg("mask"), py::arg("resets"), py::arg("reverse"),
               py::arg("random"), py::arg("wanted"), py::arg("num_threads"), py::arg("isa"));
}

}    // namespace fusedcell::bindings
