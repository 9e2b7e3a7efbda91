#include "bindings/long_call.h"

namespace fusedcell::bindings {
namespace {

namespace py = pybind11;

// Of multiply-adds: some 0.1 s of the slowest tier, less than a millisecond of the others.
constexpr double kOperationsToHandleSignals = 1 << 25;

// Often enough for a person, and rarely enough for another thread's sake: where one is running Python, the GIL is to be
// waited for, 5 ms by default.
constexpr std::chrono::milliseconds kBetweenSignals{100};

// Handlers run on no other thread.
bool is_main_thread() {
    if (Py_IsInitialized() == 0) return false;    // it is ending, and imports nothing more
    PyObject* ident = call_python([] {
        PyObject* threading = PyImport_ImportModule("threading");
        PyObject* main = threading == nullptr ? nullptr : PyObject_CallMethod(threading, "main_thread", nullptr);
        PyObject* found = main == nullptr ? nullptr : PyObject_GetAttrString(main, "ident");
        Py_XDECREF(main);
        Py_XDECREF(threading);
        return found;
    });
    if (ident == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(ident).cast<unsigned long>() == PyThread_get_thread_ident();
}

}    // namespace

LongCall::LongCall(double operations)
    : callers_mode_(current_float_mode()), handled_(std::chrono::steady_clock::now()) {
    if (operations >= kOperationsToHandleSignals && is_main_thread()) checkpoint_.emplace(&handle_signals, this);
    thread_ = PyEval_SaveThread();
}

bool LongCall::handle_signals(void* self) {
    auto& call = *static_cast<LongCall*>(self);
    if (std::chrono::steady_clock::now() - call.handled_ < kBetweenSignals) return true;
    const ScopedFloatMode mode(call.callers_mode_);
    take_gil(call.thread_);
    const bool go_on = call_python([] { return PyErr_CheckSignals(); }) == 0;
    call.thread_ = PyEval_SaveThread();
    call.handled_ = std::chrono::steady_clock::now();
    return go_on;
}

}    // namespace fusedcell::bindings
