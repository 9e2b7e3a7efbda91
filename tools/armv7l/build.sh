#!/usr/bin/env bash
# Cross-build the armv7l wheel into .armv7l/dist and unpack it into .armv7l/install, where the 32-bit Python of
# tools/armv7l/setup.sh finds it. Incremental: objects stay in build/armv7l-wheel. Arguments go to `pip wheel`: -v shows
# the compiler's output, -C cmake.build-type=Debug builds with assertions.
#
# The wheel needs the glibc of the cross compiler and, being built with the distribution's NumPy, one of its major version:
# it is for testing, not for publishing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
dir=$PWD/.armv7l

[[ -f $dir/site.stamp ]] || { echo "build.sh: run tools/armv7l/setup.sh first" >&2; exit 1; }
version=$(<"$dir/python-version")
cp=cp${version/./}

# The venv's CMake and Ninja, and none of the flags that someone set for this machine's own compiler.
export PATH=$dir/venv/bin:$PATH
unset CC CXX CFLAGS CXXFLAGS CPPFLAGS LDFLAGS CMAKE_ARGS CMAKE_GENERATOR
export CMAKE_TOOLCHAIN_FILE=$PWD/cmake/toolchain-arm-linux-gnueabihf.cmake
export SETUPTOOLS_EXT_SUFFIX=.cpython-${version/./}-arm-linux-gnueabihf.so # how scikit-build-core is told

rm -rf "$dir/dist" "$dir/install"
(($#)) || set -- --quiet
python -m pip wheel . --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir "$dir/dist" \
  -C build-dir=build/armv7l-wheel -C wheel.tags="$cp-$cp-linux_armv7l" "$@"
python -m zipfile -e "$dir"/dist/*.whl "$dir/install"

# An extension for the host would sit there just as well, and only fail to be found: import it.
PYTHONDONTWRITEBYTECODE=1 "$dir/root/usr/bin/python" -c '
import fusedcell._core as core
print("armv7l: built", core.__file__)'
