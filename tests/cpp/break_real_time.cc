// Allocates in a function that says it does not, which RealtimeSanitizer must not let pass.
#include <cstdlib>

#include "fusedcell/fusedcell.h"

namespace {

void allocate() noexcept FUSEDCELL_NONBLOCKING {
    void* volatile memory = std::malloc(1);
    std::free(memory);
}

}    // namespace

int main() {
    allocate();
    return 0;
}
