#!/usr/bin/env bash
# Install the library into a folder of its own, build examples/cpp against it as its users do, and hold what it answers
# against Python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$PWD/.venv/bin/python

tools/build_cpp.sh library
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install build/library --prefix "$prefix/installed" >/dev/null
log=$prefix/log
{
  cmake -S examples/cpp -B "$prefix/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix/installed" &&
    cmake --build "$prefix/build"
} >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
"$python" examples/cpp/check.py "$prefix/build/stream_layer"
strip -o "$prefix/stripped" "$prefix/build/stream_layer"
size "$prefix/stripped" | awk 'NR == 2 { printf "%d bytes of code, %d of data\n", $1, $2 }'
