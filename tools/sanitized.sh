#!/usr/bin/env bash
# Runs a command in the environment whose fusedcell is built with AddressSanitizer and UndefinedBehaviorSanitizer.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
pybind11_DIR=$("$python" -m pybind11 --cmakedir)
export pybind11_DIR Python_ROOT_DIR=$root/.venv

"$root/tools/build_cpp.sh" sanitize -DFUSEDCELL_PYTHON=ON

# The package as installed, with the instrumented extension in the place of the other.
install=$root/build/sanitize/install
rm -rf "$install"
mkdir -p "$install"
cp -r "$root/python/fusedcell" "$install"
cmake --install "$root/build/sanitize" >/dev/null
# The interpreter is not instrumented, so the runtime is loaded before it, and after FUSEDCELL_PRELOAD; its own leaks are
# not ours to report. What cannot be allocated raises MemoryError, as it does elsewhere.
export LD_PRELOAD PYTHONPATH=$install${PYTHONPATH:+:$PYTHONPATH}
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=64:verify_asan_link_order=0
LD_PRELOAD="${FUSEDCELL_PRELOAD:-} $(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)"
"$python" -c "
import fusedcell._core as core
assert core.__file__.startswith('$install'), core.__file__"
exec "$@"
