#!/usr/bin/env bash
# Run a command with CXX set to the Clang of pyproject's group `clang`, whose programs find its C++ library.
set -euo pipefail
bin=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv-clang/bin
export CXX=$bin/clang++
libraries=$(dirname "$("$CXX" -print-file-name=libc++.so.1)")
export LDFLAGS="-Wl,-rpath,$libraries"
exec "$@"
