// Streams that a call takes together.
#pragma once

#include <string>

#include "bindings/arguments.h"
#include "bindings/fast_method.h"
#include "bindings/gil.h"
#include "bindings/stream.h"

namespace fusedcell::bindings {

template <class S>
S& stream_at(const py::tuple& streams, Py_ssize_t index) {
    return instance_of<S>(PyTuple_GET_ITEM(streams.ptr(), index));
}

/// A tuple keeps the streams alive, and is what it is whatever other threads do to the caller's list. `is_own` says
/// whether a stream is of this `owner`, "layer" or "model". TypeError or ValueError.
template <class S, class IsOwn>
py::tuple checked_streams(py::handle value, const char* class_name, const char* owner, const IsOwn& is_own) {
    if (!PySequence_Check(value.ptr()) && Py_TYPE(value.ptr())->tp_iter == nullptr) {
        throw py::type_error("streams: expected a sequence of streams, got " + type_name(value));
    }
    auto streams = py::reinterpret_steal<py::tuple>(call_python([&] { return PySequence_Tuple(value.ptr()); }));
    if (!streams) throw py::error_already_set();
    auto* type = reinterpret_cast<PyTypeObject*>(py::type::handle_of<S>().ptr());
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(streams.ptr()); ++i) {
        PyObject* item = PyTuple_GET_ITEM(streams.ptr(), i);
        const auto place = [&] { return " at index " + std::to_string(i); };
        if (!PyObject_TypeCheck(item, type)) {
            throw py::type_error(std::string("streams: expected a ") + class_name + place() + ", got " +
                                 type_name(item));
        }
        if (is_own(stream_at<S>(streams, i))) continue;
        throw py::value_error(std::string("streams: expected streams of this ") + owner +
                              ", whose weights they share; the one" + place() + " is of another");
    }
    return streams;
}

// Holds all the streams for one call, or none.
template <class S>
class StreamsInUse {
public:
    explicit StreamsInUse(const py::tuple& streams) : streams_(streams) {
        for (const Py_ssize_t size = PyTuple_GET_SIZE(streams.ptr()); taken_ < size; ++taken_) {
            if (stream_at<S>(streams_, taken_).turn().take()) continue;
            const Py_ssize_t index = taken_;
            give_back();
            throw_in_use(index);
        }
    }
    ~StreamsInUse() { give_back(); }
    StreamsInUse(const StreamsInUse&) = delete;
    StreamsInUse& operator=(const StreamsInUse&) = delete;

private:
    [[noreturn]] void throw_in_use(Py_ssize_t index) const {
        for (Py_ssize_t i = 0; i < index; ++i) {
            if (&stream_at<S>(streams_, i) == &stream_at<S>(streams_, index)) {
                throw py::value_error("streams: expected each stream once; the one at index " + std::to_string(i) +
                                      " is also at index " + std::to_string(index));
            }
        }
        throw std::runtime_error("streams: another thread is using the one at index " + std::to_string(index) +
                                 "; no stream has been changed");
    }
    void give_back() {
        while (taken_ > 0) stream_at<S>(streams_, --taken_).turn().give_back();
    }

    const py::tuple& streams_;
    Py_ssize_t taken_ = 0;
};

}    // namespace fusedcell::bindings
