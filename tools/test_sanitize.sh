#!/usr/bin/env bash
# The C++ tests and the quick part of the Python tests, every pair of parameters once, under AddressSanitizer and UndefinedBehaviorSanitizer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$PWD/.venv/bin/python
pybind11_DIR=$("$python" -m pybind11 --cmakedir)
export pybind11_DIR Python_ROOT_DIR=$PWD/.venv

tools/test_cpp.sh sanitize

# The package as installed, with the instrumented extension in the place of the other.
install=$PWD/build/sanitize/install
rm -rf "$install"
mkdir -p "$install"
cp -r python/fusedcell "$install"
cmake --install build/sanitize >/dev/null
# The interpreter is not instrumented, so the runtime is loaded before it; its own leaks are not ours to report.
export LD_PRELOAD ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$install
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)"
"$python" -c "
import fusedcell._core as core
assert core.__file__.startswith('$install'), core.__file__"
"$python" -m pytest -m core --pairs -n 2 -p no:cacheprovider --cpp-tests=build/sanitize/tests/cpp
