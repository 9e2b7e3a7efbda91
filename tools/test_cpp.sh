#!/usr/bin/env bash
# Build the library and its C++ tests with a preset of CMakePresets.json, and run them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:?usage: tools/test_cpp.sh PRESET}

mkdir -p build
log=build/$preset.log
{ cmake --preset "$preset" && cmake --build --preset "$preset"; } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
ctest --preset "$preset"
