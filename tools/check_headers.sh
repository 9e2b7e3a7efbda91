#!/usr/bin/env bash
# check_headers.sh x86_64|aarch64 COMPILER: each header of csrc and include compiles alone, as an editor opens it. Headers
# with the intrinsics of the other architecture are left to the other run; those that need Python's, to clang-tidy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
architecture=$1 compiler=$2

# Every feature that a tier is compiled for.
features() { grep -oE -- "$1" cmake/tiers.cmake | sort -u | tr -d '\n'; }
case $architecture in
  x86_64) flags=$(features ' -m(sse|avx|fma|f16c)[a-z0-9.]*') others=arm_neon.h ;;
  aarch64) flags=-march=armv8.2-a$(features '\+[a-z0-9]+') others=immintrin.h ;;
  *) echo "check_headers.sh: expected x86_64 or aarch64, got '$architecture'" >&2; exit 2 ;;
esac
check() {
  local said status=0
  said=$(printf '#include "%s"\n' "$1" |
    "$compiler" -std=c++17 -Wall -Wextra -Wno-unused-function -Icsrc -Iinclude $flags -fsyntax-only -x c++ - 2>&1) || status=$?
  if ((status)) && grep -q "fatal error: $others" <<<"$said"; then return; fi
  [[ -z $said ]] || printf "%s\n" "$said" >&2
  return "$status"
}
export -f check
export compiler flags others
git ls-files 'csrc/*.h' 'include/*.h' | grep -v '^csrc/bindings/' | sed -E 's,^(csrc|include)/,,' |
  xargs -P "$(nproc)" -I{} bash -c 'check {}'
