#!/usr/bin/env bash
# Build what a preset of CMakePresets.json configures; the compiler is heard only if it fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:?usage: tools/build_cpp.sh PRESET [CMAKE_ARGUMENTS]}
shift

mkdir -p build
log=build/$preset.log
{ cmake --preset "$preset" "$@" && cmake --build --preset "$preset"; } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
