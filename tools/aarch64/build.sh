#!/usr/bin/env bash
# Cross-build the AArch64 wheel into .aarch64/dist and unpack it into .aarch64/install, where the AArch64 Python of
# tools/aarch64/setup.sh finds it. Incremental: objects stay in build/aarch64-wheel. Arguments go to `pip wheel`: -v shows
# the compiler's output, -C cmake.build-type=Debug builds with assertions.
#
# The wheel is tagged linux_aarch64 and needs the glibc of the cross compiler: it is for testing, not for publishing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
dir=$PWD/.aarch64

[[ -f $dir/site.stamp ]] || { echo "build.sh: run tools/aarch64/setup.sh first" >&2; exit 1; }
version=$(<"$dir/python-version")
cp=cp${version/./}

# The venv's CMake and Ninja, and none of the flags that someone set for this machine's own compiler.
export PATH=$dir/venv/bin:$PATH
unset CC CXX CFLAGS CXXFLAGS CPPFLAGS LDFLAGS CMAKE_ARGS CMAKE_GENERATOR
export CMAKE_TOOLCHAIN_FILE=$PWD/cmake/toolchain-aarch64-linux-gnu.cmake
export SETUPTOOLS_EXT_SUFFIX=.cpython-${version/./}-aarch64-linux-gnu.so # how scikit-build-core is told

rm -rf "$dir/dist" "$dir/install"
(($#)) || set -- --quiet
python -m pip wheel . --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir "$dir/dist" \
  -C build-dir=build/aarch64-wheel -C wheel.tags="$cp-$cp-linux_aarch64" "$@"
python -m zipfile -e "$dir"/dist/*.whl "$dir/install"

# An extension for the host would sit there just as well, and only fail to be found: import it.
PYTHONDONTWRITEBYTECODE=1 "$dir/root/usr/bin/python" -c '
import fusedcell._core as core
print("aarch64: built", core.__file__)'
