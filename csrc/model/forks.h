// Whether this process is still the one that it was.
#pragma once

namespace fusedcell {

/// Another number after a call than before it says that this is a child of fork() now, which has none of its parent's
/// threads but the one that made the call.
unsigned forks();

}    // namespace fusedcell
