#!/usr/bin/env bash
# Get what it takes to build and test for AArch64 on an x86-64 Debian or Ubuntu, without an ARM machine:
#
#   .aarch64/root   an AArch64 CPython with headers, and
#   .aarch64/venv   host Python with the build tools, by tools/emulated/setup.sh
#   .aarch64/site   AArch64 wheels of NumPy and of pyproject.toml's `test` group
#   .aarch64/peers  with --peers: AArch64 wheels of the libraries that tools/aarch64/count_peers.py compares with
#
# A second run does nothing.
#
# PYTHON=python3.x             the host Python to use, 3.11 or later (default: python3)
# AARCH64_APT_SOURCES=FILE     apt sources that carry arm64, where this machine's own do not (Ubuntu: its ports archive)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

peers=
if [[ ${1:-} == --peers ]]; then peers=1 && shift; fi
(($# == 0)) || { echo "usage: tools/aarch64/setup.sh [--peers]" >&2; exit 2; }

name=aarch64 architecture=arm64 triple=aarch64-linux-gnu qemu=qemu-aarch64
sources=${AARCH64_APT_SOURCES:-} sources_variable=AARCH64_APT_SOURCES
source tools/emulated/setup.sh
install_host_tools
unpack_python

want=$(stamp tools/emulated/setup.sh tools/aarch64/setup.sh pyproject.toml)
pip_arm() { # folder, what to install...
  # pip does not let a newer manylinux tag imply the older ones. No pyc files: the host's Python would compile them.
  local tag platforms=() target=$1
  shift
  for tag in manylinux_2_{35,34,31,28,27,26,17}_aarch64 manylinux2014_aarch64; do platforms+=(--platform "$tag"); done
  pip install --target "$target" --no-compile --only-binary=:all: --implementation cp --python-version "$version" \
    "${platforms[@]}" "$@"
}
if ! fresh "$dir/site.stamp" "$want"; then
  rm -rf "$dir/site" "$dir/site.stamp"
  say "fetching wheels"
  install_build_tools
  pip_arm "$dir/site" numpy --group test
  echo "$want" >"$dir/site.stamp"
fi
if [[ -n $peers ]] && ! fresh "$dir/peers.stamp" "$want"; then
  rm -rf "$dir/peers" "$dir/peers.stamp"
  say "fetching wheels of other libraries"
  # What they need to be imported, apart from NumPy, which is there; all that they ask for would be ten times as much.
  pip_arm "$dir/peers" --no-deps --group peers-aarch64 flatbuffers ml_dtypes protobuf typing_extensions
  echo "$want" >"$dir/peers.stamp"
fi

PYTHONDONTWRITEBYTECODE=1 "$dir/root/usr/bin/python" -c '
import importlib.util as u, platform, subprocess, sys, sysconfig
assert platform.machine() == "aarch64", platform.machine()
assert subprocess.check_output([sys.executable, "-c", "print(6 * 7)"]) == b"42\n"
assert all(u.find_spec(m) for m in ("numpy", "pytest", "hypothesis"))
suffix = sysconfig.get_config_var("EXT_SUFFIX")
print("aarch64: Python", platform.python_version(), "under QEMU, extensions are *" + suffix)'
