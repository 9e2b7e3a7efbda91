// StreamPool: argument checks, and one call at a time.
#include "model/stream_pool.h"

#include <pybind11/stl.h>

#include <optional>

#include "bindings/arguments.h"
#include "bindings/bindings.h"
#include "bindings/fast_method.h"
#include "bindings/gil.h"
#include "bindings/model.h"
#include "bindings/stream.h"
#include "pack/sizes.h"

namespace fusedcell::bindings {
namespace {

// What pools of layers and of models share.
class Pool {
public:
    explicit Pool(std::ptrdiff_t capacity) : chosen_(static_cast<std::size_t>(capacity)) {
        slots_.reserve(count_of<std::ptrdiff_t>(capacity));
    }
    virtual ~Pool() = default;
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    virtual const Slots& slots() const = 0;
    virtual std::ptrdiff_t join() = 0;
    virtual void leave(std::ptrdiff_t slot) = 0;
    virtual void reset(std::ptrdiff_t slot) = 0;
    /// Of slots that have joined; `out` may be null.
    virtual py::object step(const std::vector<std::ptrdiff_t>& slots, py::handle x, PyObject* out) = 0;
    /// `self` is the pool's Python object.
    virtual py::object state(py::handle self, std::ptrdiff_t slot) = 0;
    /// Of a model: what its streams have for one row.
    virtual NetworkStream& stream() { throw py::type_error("pool: expected one of a model"); }
    virtual std::ptrdiff_t input_size() const = 0;
    virtual std::ptrdiff_t output_size() const = 0;
    virtual std::size_t nbytes() const { return bytes_of(slots_) + chosen_.capacity() / 8; }

    /// The slots of a call, all joined and different. Only while the pool is in use.
    const std::vector<std::ptrdiff_t>& read_slots(py::handle value) {
        read_rows(value, "slots", 0, slots().capacity(), slots_);
        std::optional<std::ptrdiff_t> again;
        for (const std::ptrdiff_t slot : slots_) {
            if (chosen_[index(slot)]) again = slot;
            chosen_[index(slot)] = true;
        }
        for (const std::ptrdiff_t slot : slots_) chosen_[index(slot)] = false;
        if (again) {
            throw py::value_error("slots: expected each slot once, got " + std::to_string(*again) + " more than once");
        }
        for (const std::ptrdiff_t slot : slots_) check_joined(slot, "slots");
        return slots_;
    }
    std::ptrdiff_t checked_slot(const Integer& slot) const {
        if (slot.nearest() < 0 || slot.nearest() >= slots().capacity()) {
            throw py::index_error("slot: expected a number from 0 to " + std::to_string(slots().capacity() - 1) +
                                  ", got " + slot.text());
        }
        const auto number = static_cast<std::ptrdiff_t>(slot.nearest());
        check_joined(number, "slot");
        return number;
    }

    // Holds the pool for one call.
    struct InUse : Turn::Held {
        explicit InUse(Pool& pool) : Held(pool.turn_, "pool: another thread is using it; take turns") {}
    };

private:
    static std::size_t index(std::ptrdiff_t slot) { return static_cast<std::size_t>(slot); }
    void check_joined(std::ptrdiff_t slot, const char* name) const {
        if (slots().is_joined(slot)) return;
        throw py::value_error(std::string(name) + ": expected slots that have joined, got " + std::to_string(slot) +
                              ", which has not");
    }

    std::vector<std::ptrdiff_t> slots_;
    std::vector<bool> chosen_;
    Turn turn_;
};

class LayerPool final : public Pool {
public:
    LayerPool(std::shared_ptr<const Node> node, std::ptrdiff_t capacity, int num_threads, py::handle h_0,
              py::handle c_0)
        : Pool(capacity), pool_(std::move(node), capacity, num_threads) {
        start_from(shape(), pool_.states(), h_0, c_0);
    }

    const Slots& slots() const override { return pool_.slots(); }
    std::ptrdiff_t join() override { return pool_.join(); }
    void leave(std::ptrdiff_t slot) override { pool_.leave(slot); }
    void reset(std::ptrdiff_t slot) override { pool_.states().reset_row(slot); }

    py::object step(const std::vector<std::ptrdiff_t>& slots, py::handle x_value, PyObject* out) override {
        const auto batch = static_cast<std::ptrdiff_t>(slots.size());
        States& states = pool_.states();
        FloatArray x(x_value, "x");
        x.expect_shape({batch, input_size()});
        const RowsShape y_shape{true, batch, output_size()};
        py::object y = out != nullptr ? py::reinterpret_borrow<py::object>(out) : new_array(y_shape.dims());
        float* y_data = checked_out(y.ptr(), y_shape);
        check_apart(reinterpret_cast<PyArrayObject*>(y.ptr()), states);
        if (overlaps(x.array(), states) || overlaps(x.array(), y_data, y_shape.floats())) x.detach();
        const double operations = pool_.node().step_operations() * static_cast<double>(batch);
        std::optional<GilRelease> release;
        if (operations >= kOperationsToReleaseGil) release.emplace();
        pool_.step(slots, x.data(), y_data);
        return y;
    }

    py::object state(py::handle self, std::ptrdiff_t slot) override {
        const RowState row = pool_.states().row(slot);
        const auto view = [&](float* data, std::ptrdiff_t size) {
            return view_of(py::reinterpret_borrow<py::object>(self), data, {shape().state_layers, size},
                           {row.layer_rows * size, 1});
        };
        py::object h = view(row.h, shape().h_size);
        if (row.c == nullptr) return h;
        return py::make_tuple(h, view(row.c, shape().c_size));
    }

    std::ptrdiff_t input_size() const override { return shape().input_size; }
    std::ptrdiff_t output_size() const override { return shape().output_size; }
    std::size_t nbytes() const override { return sizeof *this + Pool::nbytes() + pool_.nbytes() - sizeof pool_; }

private:
    const NodeShape& shape() const { return pool_.node().shape(); }

    StreamPool pool_;
};

class ModelPool final : public Pool {
public:
    ModelPool(const LoadedModel& model, std::ptrdiff_t capacity)
        : Pool(capacity),
          slots_(capacity),
          stream_(model.model, capacity, static_cast<std::ptrdiff_t>(model.model->hop_in())) {
        rows_.reserve(count_of<NetworkStream::StreamRow>(capacity));
    }

    const Slots& slots() const override { return slots_; }
    std::ptrdiff_t join() override {
        const std::ptrdiff_t slot = slots_.join();
        reset(slot);
        return slot;
    }
    void leave(std::ptrdiff_t slot) override { slots_.leave(slot); }
    void reset(std::ptrdiff_t slot) override { stream_.reset_row(slot); }

    py::object step(const std::vector<std::ptrdiff_t>& slots, py::handle x, PyObject* out) override {
        rows_.clear();
        for (const std::ptrdiff_t slot : slots) rows_.push_back({&stream_, slot});
        return step_rows(stream_.model(), rows_, x, out, stream_.workspace());
    }

    py::object state(py::handle, std::ptrdiff_t) override {
        throw py::type_error("state: a model's state is no array; a pool of a model shows none");
    }

    NetworkStream& stream() override { return stream_; }
    std::ptrdiff_t input_size() const override {
        return only(stream_.model().inputs().size(), stream_.model().inputs()[0].size);
    }
    std::ptrdiff_t output_size() const override {
        return only(stream_.model().outputs().size(), stream_.model().output_size(0));
    }
    std::size_t nbytes() const override {
        return sizeof *this + Pool::nbytes() + slots_.nbytes() + bytes_of(rows_) + stream_.nbytes();
    }

private:
    static std::ptrdiff_t only(std::size_t count, std::ptrdiff_t size) {
        if (count != 1) throw py::attribute_error("a model of several inputs or outputs; model.inputs has their sizes");
        return size;
    }

    Slots slots_;
    NetworkStream stream_;
    std::vector<NetworkStream::StreamRow> rows_;
};

}    // namespace
}    // namespace fusedcell::bindings

namespace pybind11::detail {

template <>
class type_caster<fusedcell::bindings::Pool>
    : public fusedcell::bindings::InitialisedCaster<type_caster_base<fusedcell::bindings::Pool>> {};

}    // namespace pybind11::detail

namespace fusedcell::bindings {
namespace {

std::unique_ptr<Pool> make_pool(py::handle owner, py::handle capacity, py::handle num_threads, py::handle h_0,
                                py::handle c_0) {
    const int threads = read_num_threads(num_threads);
    if (py::isinstance<LoadedModel>(owner)) {
        const auto& model = owner.cast<const LoadedModel&>();
        expect_streams(*model.model);
        return std::make_unique<ModelPool>(model, read_count(capacity, "capacity"));
    }
    auto node = owner.cast<std::shared_ptr<Node>>();
    const std::ptrdiff_t slots = read_batch(*node, capacity, "capacity");
    return std::make_unique<LayerPool>(std::move(node), slots, threads, h_0, c_0);
}

constexpr Signature kJoin{"join()", {}, 0};

py::object join(py::handle self, const Arguments&) {
    auto& pool = self.cast<Pool&>();
    const Pool::InUse in_use(pool);
    if (pool.slots().is_full()) {
        throw std::runtime_error("pool: all of its " + std::to_string(pool.slots().capacity()) + " slots are taken");
    }
    return py::int_(pool.join());
}

PyMethodDef join_definition = fast_method<kJoin, &join>(
    "join",
    "join($self, /)\n--\n\n"
    "Takes a free slot, whose state is that of a new stream, and returns its number. Raises RuntimeError if\n"
    "there is none.");

constexpr Signature kLeave{"leave(slot)", {"slot"}, 1};

py::object leave(py::handle self, const Arguments& values) {
    auto& pool = self.cast<Pool&>();
    const Integer number(values[0], "slot");
    const Pool::InUse in_use(pool);
    pool.leave(pool.checked_slot(number));
    return py::none();
}

PyMethodDef leave_definition =
    fast_method<kLeave, &leave>("leave", "leave($self, /, slot)\n--\n\nFrees a slot for another to join.");

constexpr Signature kResetSlots{"reset(slots)", {"slots"}, 1};

py::object reset_slots(py::handle self, const Arguments& values) {
    auto& pool = self.cast<Pool&>();
    const Pool::InUse in_use(pool);
    for (const std::ptrdiff_t slot : pool.read_slots(values[0])) pool.reset(slot);
    return py::none();
}

PyMethodDef reset_slots_definition = fast_method<kResetSlots, &reset_slots>(
    "reset",
    "reset($self, /, slots)\n--\n\n"
    "Sets the state of joined slots to that of a new stream. `slots` are numbers, or one number.");

constexpr Signature kStepSlots{"step(slots, x, out=None)", {"slots", "x", "out"}, 2};

py::object step_slots(py::handle self, const Arguments& values) {
    auto& pool = self.cast<Pool&>();
    const Pool::InUse in_use(pool);
    const bool has_out = values[2] != nullptr && values[2] != Py_None;
    return pool.step(pool.read_slots(values[0]), values[1], has_out ? values[2] : nullptr);
}

PyMethodDef step_slots_definition = fast_method<kStepSlots, &step_slots>(
    "step",
    "step($self, /, slots, x, out=None)\n--\n\n"
    "One time step of the given slots, in any order: X is (N, input_size), one row a slot. Returns h,\n"
    "(N, output_size), in `out` if that is given: a C-contiguous float32 array of that shape, away from the\n"
    "states. The bits are those of each stream alone.\n\n"
    "Raises IndexError for a number that is no slot, TypeError or ValueError for a slot that has not joined\n"
    "or comes twice, or for X or out that are not as described, RuntimeError if another thread is using the\n"
    "pool; all states are then as they were.");

constexpr Signature kState{"state(slot)", {"slot"}, 1};

py::object state(py::handle self, const Arguments& values) {
    auto& pool = self.cast<Pool&>();
    const Integer number(values[0], "slot");
    const Pool::InUse in_use(pool);
    return pool.state(self, pool.checked_slot(number));
}

PyMethodDef state_definition = fast_method<kState, &state>(
    "state",
    "state($self, /, slot)\n--\n\n"
    "h, or (h, c) for an LSTM, of a joined slot: writeable views, (num_layers, size), good until it leaves.");

}    // namespace

void bind_stream_pool(py::module_& module) {
    py::class_<Pool> type(module, "StreamPool");
    refuse_pickling(type);
    for (PyMethodDef* method :
         {&join_definition, &leave_definition, &reset_slots_definition, &step_slots_definition, &state_definition}) {
        add_method(type, *method);
    }
    type.def(py::init(&make_pool), py::arg("stack"), py::arg("capacity"), py::arg("num_threads") = 1,
             py::arg("h_0") = py::none(), py::arg("c_0") = py::none())
        .def("_snapshot",
             [](Pool& pool, py::handle slot) {
                 const Integer number(slot, "slot");
                 const Pool::InUse in_use(pool);
                 return snapshot_of(pool.stream(), pool.checked_slot(number));
             })
        .def("_restore",
             [](Pool& pool, py::handle slot, std::int64_t rows_in, py::handle state) {
                 const Integer number(slot, "slot");
                 const Pool::InUse in_use(pool);
                 restore(pool.stream(), pool.checked_slot(number), rows_in, state);
             })
        .def("__len__", [](const Pool& pool) { return pool.slots().joined(); })
        .def_property_readonly(
            "slots",
            [](const Pool& pool) {
                std::vector<std::ptrdiff_t> joined;
                for (std::ptrdiff_t slot = 0; slot < pool.slots().capacity(); ++slot) {
                    if (pool.slots().is_joined(slot)) joined.push_back(slot);
                }
                return joined;
            },
            "The slots that have joined, a list of numbers in rising order.")
        .def_property_readonly(
            "capacity", [](const Pool& pool) { return pool.slots().capacity(); }, "Slots, free and joined.")
        .def_property_readonly("input_size", &Pool::input_size, "Features of x.")
        .def_property_readonly("output_size", &Pool::output_size, "Size of h of a slot.")
        .def_property_readonly("nbytes", &Pool::nbytes,
                               "Bytes of the states and of all that a step needs, the same from the start to the end.");
}

}    // namespace fusedcell::bindings
