"""Build the sdist and a manylinux wheel for each CPython and architecture that can be had here, into dist.

Zig, from PyPI, compiles for an old glibc without containers; see cmake/toolchain-zig.cmake. One line says of each
wheel that it was built, or why it could not be.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy
from pythons import ARCHITECTURES, ROOT, VERSIONS, NotToBeHadError, Python, find

DIST = ROOT / "dist"
GLIBC = "2.17"
PLATFORMS = ("manylinux_2_17", "manylinux2014")  # two names of one thing; old versions of pip know the second
# Set for this machine's own compiler.
OTHER_COMPILERS = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "CMAKE_ARGS", "CMAKE_GENERATOR")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="as cp311-x86_64, or sdist; all, if none is named")
    arguments = parser.parse_args()
    DIST.mkdir(exist_ok=True)
    if not arguments.names:
        for old in (*DIST.glob("fusedcell-*.whl"), *DIST.glob("fusedcell-*.tar.gz")):
            old.unlink()
    wanted = set(arguments.names)
    if not wanted or "sdist" in wanted:
        wanted.discard("sdist")
        built(build_sdist)
    for architecture in ARCHITECTURES:
        for version in VERSIONS:
            name = f"cp{version.replace('.', '')}-{architecture}"
            if arguments.names and name not in wanted:
                continue
            wanted.discard(name)
            try:
                python = find(version, architecture)
            except NotToBeHadError as reason:
                print(f"{name}: not built: no CPython {version} for {architecture} to be had: {reason}", flush=True)
                if arguments.names:
                    return 1
                continue
            built(build_wheel, python)
    if wanted:
        print(f"build.py: no such wheel: {', '.join(sorted(wanted))}", file=sys.stderr)
        return 2
    return 0


def built(build: Callable[..., Path], *arguments: object) -> None:
    start = time.monotonic()
    path = build(*arguments)
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB, {time.monotonic() - start:.0f} s", flush=True)


def build_sdist() -> Path:
    run([sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", DIST, ROOT], dict(os.environ))
    (path,) = DIST.glob("fusedcell-*.tar.gz")
    return path


def build_wheel(python: Python) -> Path:
    """A wheel for `python` by this Python's build tools: they take the other's suffix, tags and headers as told."""
    environment = {name: value for name, value in os.environ.items() if name not in OTHER_COMPILERS}
    environment |= {
        "CMAKE_TOOLCHAIN_FILE": str(ROOT / "cmake/toolchain-zig.cmake"),
        "SETUPTOOLS_EXT_SUFFIX": python.suffix,
        # ccache, if CMAKE_CXX_COMPILER_LAUNCHER names it, sees a script.
        "CCACHE_COMPILERTYPE": "clang",
        "CCACHE_COMPILERCHECK": f"string:ziglang {version_of('ziglang')}",
    }
    settings = {
        # One folder an architecture: the kernels have nothing of Python and are compiled once.
        "build-dir": f"build/wheel-{python.architecture}",
        "wheel.tags": ";".join(f"{python.tag}-{python.tag}-{name}_{python.architecture}" for name in PLATFORMS),
        "cmake.define.FUSEDCELL_ZIG_TARGET": f"{python.architecture}-linux-gnu.{GLIBC}",
        "cmake.define.FUSEDCELL_TARGET_PYTHON": python.executable,
        "cmake.define.FUSEDCELL_TARGET_INCLUDE": python.include,
        "cmake.define.FUSEDCELL_NUMPY_INCLUDE": numpy.get_include(),
    }
    options = [option for name, value in settings.items() for option in ("-C", f"{name}={value}")]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--wheel-dir",
        DIST,
        *options,
        ROOT,
    ]
    run(pip, environment)
    (path,) = DIST.glob(f"fusedcell-*-{python.tag}-{python.tag}-*_{python.architecture}.whl")
    extension = f"fusedcell/_core{python.suffix}"
    if extension not in zipfile.ZipFile(path).namelist():
        sys.exit(f"{path.name}: lacks {extension}")
    return path


def run(command: list[Any], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nbuild.py: {' '.join(map(str, command))} failed")


if __name__ == "__main__":
    sys.exit(main())
