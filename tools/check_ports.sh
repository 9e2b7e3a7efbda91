#!/usr/bin/env bash
# What the Linux of this machine does not compile, with the Clang of the package ziglang and with warnings as errors: the
# C++ library for Macs, musl and Windows on ARM, without optimisation, which takes long; and for Windows on x86-64 as well
# the C++ tests, which Wine runs, with the published hashes and Python's bits held against its programs. Kernels know
# nothing of the system (docs/layout.md), so those of ARM are compiled for Macs alone. Of musl it is 32-bit ARM, whose
# compiler also finds sizes that are cut off where addresses have 32 bits.
#
#   tools/check_ports.sh [--short]
#
# --short      of musl and Windows on ARM only the sources that know systems, and of musl those that count rows and bytes;
#              for Macs no tier that only loads otherwise than another; of Windows on x86-64 two tiers, and no test of
#              threads, which wait for each other through Wine's server, two minutes long
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tiers= macs_tiers= systems=() counts=() without=()
case ${1:-} in
  '') ;;
  --short)
    tiers='avx2;scalar' macs_tiers='neon;dotprod;i8mm;scalar' without=(--exclude-regex threads)
    mapfile -t systems < <(git grep -lE '_WIN32|__linux__|__APPLE__' -- 'csrc/*.cc' ':!csrc/bindings')
    mapfile -t counts < <(git ls-files 'csrc/model/*.cc' 'csrc/load/*.cc')
    ;;
  *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
run=windows-x86_64

find_wine() { PATH=$PATH:/usr/lib/wine command -v wine64 || command -v wine; }
if ! find_wine >/dev/null; then
  command -v apt-get >/dev/null || { echo 'check_ports.sh: there is no Wine, and no apt-get to install it' >&2; exit 1; }
  ((EUID == 0)) || { echo 'check_ports.sh: there is no Wine. As root: apt-get install wine64' >&2; exit 1; }
  echo 'check_ports.sh: installing wine64'
  apt-get update -qq || true # a third-party source may be down; the next line says whether it mattered
  DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends wine64 >/dev/null
fi
WINE=$(find_wine)

# Those are for this machine's own compiler. ccache, if CMAKE_CXX_COMPILER_LAUNCHER names it, sees a script.
unset CC CXX CFLAGS CXXFLAGS CPPFLAGS LDFLAGS CMAKE_ARGS CMAKE_GENERATOR
CCACHE_COMPILERCHECK="string:zig $(python-zig version)"
export CCACHE_COMPILERTYPE=clang CCACHE_COMPILERCHECK

# Wine's own files, away from the tree, as one of them is a link to the root of all files, which what packs or copies the
# tree would follow; without a screen, without its .NET and its browser, which it would offer to fetch.
WINEPREFIX=$(mktemp -d)
export WINEPREFIX WINEDEBUG=-all WINEDLLOVERRIDES='mscoree=;mshtml=;winemenubuilder.exe=' DISPLAY=
# Wine's server writes its registry when it ends.
trap '{ "$WINE" wineboot --kill; PATH=$PATH:/usr/lib/wine wineserver --wait; } >/dev/null 2>&1 || true
  rm -rf "$WINEPREFIX"' EXIT
mkdir -p build
"$WINE" wineboot --init >build/wine.log 2>&1 || { cat build/wine.log >&2; exit 1; }

tools/build_cpp.sh macos-aarch64 -DFUSEDCELL_TIERS="$macs_tiers"
for preset in musl-armv7l windows-aarch64; do
  log=build/$preset.log sources=("${systems[@]}") targets=()
  [[ $preset != musl-* ]] || sources+=("${counts[@]}")
  sources=("${sources[@]/#/$PWD/}")
  ((!${#systems[@]})) || targets=(--target "${sources[@]/%/^}") # to Ninja, SOURCE^ is what is made of it
  { cmake --preset "$preset" && cmake --build --preset "$preset" "${targets[@]}"; } >"$log" 2>&1 ||
    { cat "$log" >&2; exit 1; }
done
echo 'macos-aarch64, musl-armv7l, windows-aarch64: compiled'

tools/build_cpp.sh "$run" -DFUSEDCELL_TIERS="$tiers"
ctest --preset "$run" "${without[@]}"
# A program in the place of the one that it starts.
programs=build/$run/tests/cpp
printf '#!/bin/sh\nexec "%s" "$0.exe" "$@"\n' "$WINE" >"$programs/run_files"
chmod +x "$programs/run_files"
built=$("$programs/run_files" --isas | tr -d '\r' | paste -sd,)
python -m pytest -q tests/test_cpp_library.py -k bits --tiers="$built" --cpp-tests="$programs"
