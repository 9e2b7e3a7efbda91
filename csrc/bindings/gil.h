// Giving up the GIL, taking it again, and calling what may do both, also while the interpreter ends.
//
// CPython up to 3.13 ends a thread that asks for the GIL then, by pthread_exit, which some C libraries carry out by
// unwinding the thread's stack: past destructors that would drop references without the GIL, and into std::terminate at
// the first one that lets nothing pass. A thread that asks through these functions is left where it is, until the
// process has ended; CPython 3.14 does that itself.
#pragma once

#include <Python.h>

namespace fusedcell::bindings {

/// PyEval_RestoreThread.
void take_gil(PyThreadState* thread);

/// Calls function(context), which calls Python or NumPy. It must not throw, nor have objects with destructors.
void call_guarded(void (*function)(void* context), void* context);

/// What `call` returns, a pointer or a number: one call of Python's or NumPy's C functions that may run other code, or
/// several of them without an object between them.
template <class Call>
auto call_python(const Call& call) {
    struct Context {
        const Call& call;
        decltype(call()) result;
    } context{call, {}};
    call_guarded(
        [](void* data) {
            auto& own = *static_cast<Context*>(data);
            own.result = own.call();
        },
        &context);
    return context.result;
}

// Without the GIL for its lifetime.
class GilRelease {
public:
    GilRelease() : thread_(PyEval_SaveThread()) {}
    ~GilRelease() { take_gil(thread_); }
    GilRelease(const GilRelease&) = delete;
    GilRelease& operator=(const GilRelease&) = delete;

private:
    PyThreadState* thread_;
};

}    // namespace fusedcell::bindings
