#!/usr/bin/env bash
# Install the library into a folder of its own, build examples/cpp against it as its users do, and hold what it answers
# against Python. Then add the sources to another project, which needs nothing but its compiler and make, as a build for
# small code, and hold that against Python. `--short` builds two tiers of x86-64 alone, with the bits of all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$PWD/.venv/bin/python

options=()
[[ ${1:-} != --short ]] || options=(-DFUSEDCELL_TIERS='avx2;scalar')
tools/build_cpp.sh library "${options[@]}"
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

mkdir "$prefix/project"
cat >"$prefix/project/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.18)
project(other LANGUAGES CXX)
add_subdirectory("$PWD" fusedcell)
add_executable(stream_layer "$PWD/examples/cpp/stream_layer.cc")
target_link_libraries(stream_layer PRIVATE fusedcell::fusedcell)
END
{
  cmake -S "$prefix/project" -B "$prefix/other" -G 'Unix Makefiles' -DFUSEDCELL_TIERS=scalar \
    -DFUSEDCELL_ROW_TILES=OFF -DFUSEDCELL_SPARSE=OFF &&
    cmake --build "$prefix/other" --target stream_layer --parallel
} >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
echo 'add_subdirectory: built'
"$python" examples/cpp/check.py "$prefix/other/stream_layer"
