#!/usr/bin/env bash
# check_headers.sh x86_64|aarch64 COMPILER: each header of csrc and include compiles alone, as an editor opens it. Headers
# with the intrinsics of the other architecture are left to the other run; those that need Python's, to clang-tidy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
architecture=$1 compiler=$2

arm='vec_neon|dot_i8_(neon|dotprod|i8mm)|from_registers|loads_(64|128)|dot_pipelined'
case $architecture in
  x86_64) flags='-mavx2 -mfma -mf16c -mavxvnni -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni' other=$arm ;;
  aarch64) flags=-march=armv8.2-a+dotprod+i8mm other='vec_avx|dot_i8_avx' ;;
  *) echo "check_headers.sh: expected x86_64 or aarch64, got '$architecture'" >&2; exit 2 ;;
esac
check() {
  printf '#include "%s"\n' "$1" |
    "$compiler" -std=c++17 -Wall -Wextra -Wno-unused-function -Icsrc -Iinclude $flags -fsyntax-only -x c++ -
}
export -f check
export compiler flags
git ls-files 'csrc/*.h' 'include/*.h' | grep -vE "^csrc/bindings/|/($other)" | sed -E 's,^(csrc|include)/,,' |
  xargs -P "$(nproc)" -I{} bash -c 'check {}'
