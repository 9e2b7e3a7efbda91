#!/usr/bin/env bash
# Cross-build the wheel into .NAME/dist and unpack it into .NAME/install, where the Python of tools/NAME/setup.sh finds it:
#
#   tools/emulated/build.sh aarch64|armv7l [PIP_ARGUMENTS]
#
# Incremental: objects stay in build/NAME-wheel. -v shows the compiler's output, -C cmake.build-type=Debug builds with
# assertions. The wheel needs the glibc of the cross compiler and, on armv7l, a NumPy of the distribution's major version:
# it is for testing, not for publishing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
name=${1:?usage: tools/emulated/build.sh NAME [PIP_ARGUMENTS]}
shift
case $name in
  aarch64) triple=aarch64-linux-gnu ;;
  armv7l) triple=arm-linux-gnueabihf ;;
  *) echo "build.sh: expected aarch64 or armv7l, got $name" >&2; exit 2 ;;
esac
dir=$PWD/.$name

[[ -f $dir/site.stamp ]] || { echo "build.sh: run tools/$name/setup.sh first" >&2; exit 1; }
version=$(<"$dir/python-version")
cp=cp${version/./}

# The venv's CMake and Ninja, and none of the flags that someone set for this machine's own compiler.
export PATH=$dir/venv/bin:$PATH
unset CC CXX CFLAGS CXXFLAGS CPPFLAGS LDFLAGS CMAKE_ARGS CMAKE_GENERATOR
export CMAKE_TOOLCHAIN_FILE=$PWD/cmake/toolchain-$triple.cmake
export SETUPTOOLS_EXT_SUFFIX=.cpython-${version/./}-$triple.so # how scikit-build-core is told

rm -rf "$dir/dist" "$dir/install"
(($#)) || set -- --quiet
python -m pip wheel . --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir "$dir/dist" \
  -C build-dir="build/$name-wheel" -C wheel.tags="$cp-$cp-linux_$name" "$@"
python -m zipfile -e "$dir"/dist/*.whl "$dir/install"

# An extension for the host would sit there just as well, and only fail to be found: import it.
PYTHONDONTWRITEBYTECODE=1 "$dir/root/usr/bin/python" -c '
import sys, fusedcell._core as core
print(sys.argv[1] + ": built", core.__file__)' "$name"
