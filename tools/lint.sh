#!/usr/bin/env bash
# Formatting, style, types, spelling and how easily pages are read. Each tool's version is pinned in pyproject.toml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ruff check --quiet .
ruff format --quiet --check .
mypy
python -m mypy.stubtest fusedcell._core
PYTHONPATH=python lint-imports --no-cache --no-logo
git ls-files | grep -E '^(bench|csrc|examples|include|tests|tools)/.*\.(c|cc|h)$' | xargs clang-format --dry-run --Werror
codespell
python tools/readability.py
tools/check_headers.sh x86_64 "${CXX:-g++}"

mkdir -p build
pybind11_DIR=$(python -m pybind11 --cmakedir)
export pybind11_DIR Python_ROOT_DIR=$PWD/.venv
cmake --preset tidy >build/tidy.log 2>&1 || { cat build/tidy.log >&2; exit 1; }
# rtneural_cells.cc needs RTNeural. Bindings are looked at as they are compiled, several files as one.
{
  git ls-files 'bench/*.cc' 'csrc/*.cc' |
    grep -v -e '^csrc/kernels/isa/' -e '^bench/rtneural_cells.cc' -e '^csrc/bindings/'
  ls csrc/bindings/{gil,module}.cc build/tidy/CMakeFiles/_core.dir/Unity/*.cxx
} |
  xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p build/tidy 2>/dev/null

# Each word or name has one room; see docs/layout.md.
if git grep -nE '\b(_mm(256|512)?_|v(ld1|fma|dot)q?_)[a-z]' -- csrc ':!csrc/kernels/simd'; then
  echo 'intrinsics belong in csrc/kernels/simd' >&2
  exit 1
fi
if git grep -nE 'pybind11|Python\.h' -- csrc ':!csrc/bindings'; then
  echo 'pybind11 belongs in csrc/bindings' >&2
  exit 1
fi
if git grep -n '_core' -- python/fusedcell/reference; then
  echo 'what the extension gives is held against python/fusedcell/reference, so not used there' >&2
  exit 1
fi
echo 'lint: clean'
