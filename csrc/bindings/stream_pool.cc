// StreamPool: argument checks, and one call at a time.
#include "model/stream_pool.h"

#include <optional>

#include "bindings/arguments.h"
#include "bindings/fast_method.h"
#include "bindings/bindings.h"
#include "bindings/gil.h"
#include "bindings/stream.h"

namespace fusedcell::bindings {
namespace {

class Pool {
public:
    Pool(std::shared_ptr<const Node> node, std::ptrdiff_t capacity, int num_threads)
        : pool_(std::move(node), capacity, num_threads), chosen_(static_cast<std::size_t>(capacity)) {
        slots_.reserve(chosen_.size());
    }

    StreamPool& pool() { return pool_; }
    const StreamPool& pool() const { return pool_; }
    const NodeShape& shape() const { return pool_.node().shape(); }
    std::size_t nbytes() const { return pool_.nbytes() + sizeof *this + bytes_of(slots_) + chosen_.capacity() / 8; }

    /// The slots of a call, all joined and different. Only while the pool is in use.
    const std::vector<std::ptrdiff_t>& read_slots(py::handle value) {
        read_rows(value, "slots", 0, pool_.capacity(), slots_);
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
        if (slot.nearest() < 0 || slot.nearest() >= pool_.capacity()) {
            throw py::index_error("slot: expected a number from 0 to " + std::to_string(pool_.capacity() - 1) +
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
        if (pool_.is_joined(slot)) return;
        throw py::value_error(std::string(name) + ": expected slots that have joined, got " + std::to_string(slot) +
                              ", which has not");
    }

    StreamPool pool_;
    std::vector<std::ptrdiff_t> slots_;
    std::vector<bool> chosen_;
    Turn turn_;
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

std::unique_ptr<Pool> make_pool(std::shared_ptr<Node> node, py::handle capacity, py::handle num_threads, py::handle h_0,
                                py::handle c_0) {
    const int threads = read_num_threads(num_threads);
    const std::ptrdiff_t slots = read_batch(*node, capacity, "capacity");
    auto pool = std::make_unique<Pool>(std::move(node), slots, threads);
    start_from(pool->shape(), pool->pool().states(), h_0, c_0);
    return pool;
}

constexpr Signature kJoin{"join()", {}, 0};

py::object join(py::handle self, const Arguments&) {
    auto& pool = self.cast<Pool&>();
    const Pool::InUse in_use(pool);
    if (pool.pool().is_full()) {
        throw std::runtime_error("pool: all of its " + std::to_string(pool.pool().capacity()) + " slots are taken");
    }
    return py::int_(pool.pool().join());
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
    pool.pool().leave(pool.checked_slot(number));
    return py::none();
}

PyMethodDef leave_definition =
    fast_method<kLeave, &leave>("leave", "leave($self, /, slot)\n--\n\nFrees a slot for another to join.");

constexpr Signature kReset{"reset(slots)", {"slots"}, 1};

py::object reset(py::handle self, const Arguments& values) {
    auto& pool = self.cast<Pool&>();
    const Pool::InUse in_use(pool);
    for (const std::ptrdiff_t slot : pool.read_slots(values[0])) pool.pool().states().reset_row(slot);
    return py::none();
}

PyMethodDef reset_definition = fast_method<kReset, &reset>(
    "reset",
    "reset($self, /, slots)\n--\n\n"
    "Sets the state of joined slots to that of a new stream. `slots` are numbers, or one number.");

constexpr Signature kStep{"step(slots, X, out=None)", {"slots", "X", "out"}, 2};

py::object step(py::handle self, const Arguments& values) {
    auto& pool = self.cast<Pool&>();
    const Pool::InUse in_use(pool);
    const std::vector<std::ptrdiff_t>& slots = pool.read_slots(values[0]);
    const auto batch = static_cast<std::ptrdiff_t>(slots.size());
    States& states = pool.pool().states();
    FloatArray x(values[1], "X");
    x.expect_shape({batch, pool.shape().input_size});
    const RowsShape y_shape{true, batch, pool.shape().output_size};
    const bool has_out = values[2] != nullptr && values[2] != Py_None;
    py::object y = has_out ? py::reinterpret_borrow<py::object>(values[2]) : new_array(y_shape.dims());
    float* y_data = checked_out(y.ptr(), y_shape);
    check_apart(reinterpret_cast<PyArrayObject*>(y.ptr()), states);
    if (overlaps(x.array(), states) || overlaps(x.array(), y_data, y_shape.floats())) x.detach();
    const double operations = pool.pool().node().step_operations() * static_cast<double>(batch);
    std::optional<GilRelease> release;
    if (operations >= kOperationsToReleaseGil) release.emplace();
    pool.pool().step(slots, x.data(), y_data);
    return y;
}

PyMethodDef step_definition = fast_method<kStep, &step>(
    "step",
    "step($self, /, slots, X, out=None)\n--\n\n"
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
    const NodeShape& shape = pool.shape();
    const RowState row = pool.pool().states().row(pool.checked_slot(number));
    const auto view = [&](float* data, std::ptrdiff_t size) {
        return view_of(py::reinterpret_borrow<py::object>(self), data, {shape.state_layers, size},
                       {row.layer_rows * size, 1});
    };
    py::object h = view(row.h, shape.h_size);
    if (row.c == nullptr) return h;
    return py::make_tuple(h, view(row.c, shape.c_size));
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
         {&join_definition, &leave_definition, &reset_definition, &step_definition, &state_definition}) {
        add_method(type, *method);
    }
    type.def(py::init(&make_pool), py::arg("stack"), py::arg("capacity"), py::arg("num_threads") = 1,
             py::arg("h_0") = py::none(), py::arg("c_0") = py::none())
        .def("__len__", [](const Pool& pool) { return pool.pool().joined(); })
        .def_property_readonly(
            "capacity", [](const Pool& pool) { return pool.pool().capacity(); }, "Slots, free and joined.")
        .def_property_readonly(
            "input_size", [](const Pool& pool) { return pool.shape().input_size; }, "Features of x.")
        .def_property_readonly(
            "output_size", [](const Pool& pool) { return pool.shape().output_size; }, "Size of h of a slot.")
        .def_property_readonly("nbytes", &Pool::nbytes,
                               "Bytes of the states and of all that a step needs, the same from the start to the end.");
}

}    // namespace fusedcell::bindings
