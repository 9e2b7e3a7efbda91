#!/usr/bin/env bash
# Build the library and its C++ tests with a preset of CMakePresets.json, and run them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:?usage: tools/test_cpp.sh PRESET [CTEST_ARGUMENTS]}
shift

tools/build_cpp.sh "$preset"
ctest --preset "$preset" "$@"
