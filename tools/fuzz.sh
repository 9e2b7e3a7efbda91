#!/usr/bin/env bash
# Fuzzes the Python package under sanitizers: tools/fuzz.sh SECONDS [TARGET...]. What it keeps is in build/fuzz-python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mkdir -p build/fuzz-python
gcc -O1 -Wall -Wextra -shared -fPIC -o build/fuzz-python/coverage.so tests/fuzz/coverage.c -ldl
export FUSEDCELL_PRELOAD=$PWD/build/fuzz-python/coverage.so PYTHONPATH=$PWD/tests
seconds=${1:?usage: tools/fuzz.sh SECONDS [TARGET...]}
shift
tools/sanitized.sh .venv/bin/python -m fuzz.campaign "$seconds" build/fuzz-python "$@"
