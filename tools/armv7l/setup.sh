#!/usr/bin/env bash
# Get what it takes to build and test for 32-bit ARM on an x86-64 Debian or Ubuntu, without an ARM machine:
#
#   .armv7l/root   a 32-bit CPython with headers, and
#   .armv7l/venv   host Python with the build tools, by tools/emulated/setup.sh; in root is NumPy too, as the package
#                  index has no wheels of it for armv7l
#   .armv7l/site   pyproject.toml's `test-core` group, in versions that are pure Python
#
# A second run does nothing.
#
# PYTHON=python3.x            the host Python to use, 3.11 or later (default: python3)
# ARMHF_APT_SOURCES=FILE      apt sources that carry armhf, where this machine's own do not (Ubuntu: its ports archive)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
(($# == 0)) || { echo "usage: tools/armv7l/setup.sh" >&2; exit 2; }

name=armv7l architecture=armhf triple=arm-linux-gnueabihf qemu=qemu-arm
sources=${ARMHF_APT_SOURCES:-} sources_variable=ARMHF_APT_SOURCES
source tools/emulated/setup.sh
install_host_tools
unpack_python python3-numpy
# The alternatives that a package's installation would have chosen among; the emulated loader looks in its own folders.
for library in blas lapack; do
  ln -sf "$library/lib$library.so.3" "$dir/root/usr/lib/$triple/lib$library.so.3"
done

want=$(stamp tools/emulated/setup.sh tools/armv7l/setup.sh pyproject.toml)
if ! fresh "$dir/site.stamp" "$want"; then
  rm -rf "$dir/site" "$dir/site.stamp"
  say "fetching wheels"
  install_build_tools
  # No pyc files: the host's Python would compile them.
  pip install --target "$dir/site" --no-compile --only-binary=:all: --implementation py --python-version "$version" \
    --platform any --group test-core
  echo "$want" >"$dir/site.stamp"
fi

PYTHONDONTWRITEBYTECODE=1 "$dir/root/usr/bin/python" -c '
import importlib.util as u, platform, struct, subprocess, sys, sysconfig, numpy
assert struct.calcsize("P") == 4
assert subprocess.check_output([sys.executable, "-c", "print(6 * 7)"]) == b"42\n"
assert all(u.find_spec(m) for m in ("pytest", "hypothesis", "sybil"))
suffix = sysconfig.get_config_var("EXT_SUFFIX")
print("armv7l: Python", platform.python_version(), "and NumPy", numpy.__version__, "under QEMU, extensions are *" + suffix)'
