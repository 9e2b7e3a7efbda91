#!/usr/bin/env bash
# Everything that the library's public functions do for real-time threads, under RealtimeSanitizer: it ends a program
# that allocates, locks or makes a system call inside one of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/with_clang.sh tools/build_cpp.sh realtime
ctest --preset realtime
.venv/bin/python -m pytest -p no:cacheprovider tests/test_cpp_library.py -k bits --cpp-tests=build/realtime/tests/cpp
