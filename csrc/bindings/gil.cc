// Compiled without exceptions: glibc then hands a thread that is being unwound to the cleanup handler by way of a jump,
// and not of a landing pad, which a statically linked unwinder of another kind than glibc's would not understand.
#include "bindings/gil.h"

#if !defined(_WIN32)
#include <pthread.h>
#include <unistd.h>
#endif

namespace fusedcell::bindings {
#if defined(_WIN32)

// Here a thread ends without its stack being unwound.
void call_guarded(void (*function)(void*), void* context) { function(context); }

#else
#if defined(__EXCEPTIONS)
#error "gil.cc is to be compiled with -fno-exceptions"
#endif
namespace {

void wait_for_the_end(void*) {
    for (;;) pause();
}

}    // namespace

void call_guarded(void (*function)(void*), void* context) {
    pthread_cleanup_push(&wait_for_the_end, nullptr);
    function(context);
    pthread_cleanup_pop(0);
}

#endif

void take_gil(PyThreadState* thread) {
    call_guarded([](void* context) { PyEval_RestoreThread(static_cast<PyThreadState*>(context)); }, thread);
}

}    // namespace fusedcell::bindings
