"""Install each wheel of dist into an empty environment, run the tutorial and the README's start, then the tests.

Every environment is made by the CPython that the wheel is for, and holds the wheel and NumPy alone while these run, in
an empty folder. The README's start is what it has for a machine without PyTorch; the first part, which makes the file,
is run by the Python that `--torch` names. On x86-64 each wheel passes the whole suite, and one of them what is about
instruction sets and bits once more on emulated CPUs that have fewer. On AArch64, where everything is emulated, what is
marked `core` is run with fewer combinations of parameters, by one wheel on a CPU for each level of features, by the
others on the one that has all.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pythons import ROOT, WORK, NotToBeHadError, Python, emulator_of, find, project_version, write_launcher

DIST = ROOT / "dist"
EMPTY = WORK / "empty"
THOROUGH = "3.13"
# A few values of every parameter meet: emulation is some 20 times slower.
FEW = ("-m", "core", "--combinations=pairs")
# An emulated x86-64 sees the host's /proc/cpuinfo.
TIERS_AND_BITS = (
    "tests/test_isa.py",
    "tests/test_bits.py",
    "--deselect=tests/test_isa.py::test_detection_agrees_with_the_operating_system",
)
# The least first. A tier's tests run on the least CPU that has it.
CPUS = {"aarch64": ("cortex-a53", "neoverse-n1", "max"), "x86_64": ("Nehalem", "Haswell")}
# What a CPU needs besides its name.
QEMU_OPTIONS = {
    "Haswell": "-noTSX,-invpcid,-pcid,-tsc-deadline,-x2apic",  # QEMU warns that it does not emulate them
    "max": ",pauth-impdef=on",  # the pointer authentication that the architecture defines is slow to emulate
}


class FailedError(Exception):
    pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="as cp311-x86_64, or sdist; all, if none is named")
    parser.add_argument("--start", action="store_true", help="no tests after the tutorial and the README's start")
    parser.add_argument("--torch", metavar="PYTHON", help="has fusedcell and PyTorch; without, the README is left out")
    arguments = parser.parse_args()
    shutil.rmtree(EMPTY, ignore_errors=True)
    starts = {"the tutorial": tutorial()}
    if arguments.torch is not None:
        step("README.md", "a PyTorch model to a file", make_file, arguments.torch)
        starts["the README's start"] = quick_start()
    paths: dict[str, Path] = {}
    for path in sorted(DIST.glob("*.whl")):
        tag, platforms = path.stem.split("-")[2], path.stem.split("-")[4]
        paths[f"{tag}-{next(a for a in ('x86_64', 'aarch64') if platforms.endswith(a))}"] = path
    for path in DIST.glob("*.tar.gz"):
        paths["sdist"] = path
    if unknown := set(arguments.names) - set(paths):
        sys.exit(f"test.py: not in {DIST}: {', '.join(sorted(unknown))}")
    failures = 0
    for name in arguments.names or paths:
        try:
            if name == "sdist":
                test_sdist(paths[name], starts)
            else:
                test_wheel(name, paths[name], starts, arguments.start)
        except (FailedError, NotToBeHadError) as reason:
            failures += 1
            print(f"{name}: FAILED: {reason}", flush=True)
    return 1 if failures else 0


def test_wheel(name: str, path: Path, starts: Mapping[str, str], only_start: bool) -> None:
    tag, architecture = name.split("-")
    python = find(f"3.{tag.removeprefix('cp3')}", architecture)
    environment = WORK / "env" / name
    step(name, "empty environment", new_environment, python, environment)
    interpreter = environment / "bin/python"
    install(name, "install", python, interpreter, path)
    installed = pip(interpreter, "list", "--format=freeze")
    packages = {line.partition("==")[0] for line in installed.splitlines()}
    if packages != {"fusedcell", "numpy"}:
        raise FailedError(f"installed {', '.join(sorted(packages))}, expected fusedcell and numpy")
    run_all(name, starts, interpreter)
    if only_start:
        return
    install(name, "test dependencies", python, interpreter, "--group", f"{ROOT / 'pyproject.toml'}:test")
    thorough = python.version == THOROUGH
    if architecture == platform.machine():
        step(name, "tests", suite, interpreter, None, "-n", "2")
        if not thorough:
            return
        interpreter = environment / "bin/emulated"
        write_launcher(interpreter, python, emulator_of(architecture))
    *lesser, best = CPUS[architecture]
    known: set[str] = set()
    for cpu in (*lesser, best) if thorough else (best,):
        tiers = tiers_on(interpreter, cpu)
        own = [tier for tier in tiers if tier not in known] if thorough else tiers[:1]
        if not own:
            raise FailedError(f"{cpu} has the tiers {', '.join(tiers)} and none that a lesser CPU lacks")
        known.update(tiers)
        only_own = (*FEW, f"--tiers={','.join(own)}", *(["--tier-tests"] if cpu in lesser else []))
        selection = only_own if architecture == "aarch64" else TIERS_AND_BITS
        run_all(name, starts, interpreter, cpu)
        step(name, f"{cpu}, {', '.join(own)}: tests", suite, interpreter, cpu, *selection)


def test_sdist(path: Path, starts: Mapping[str, str]) -> None:
    environment = WORK / "env/sdist"
    python = find("{}.{}".format(*sys.version_info), platform.machine())
    step("sdist", "empty environment", new_environment, python, environment)
    install("sdist", "build and install", python, environment / "bin/python", path, "--no-binary=fusedcell")
    run_all("sdist", starts, environment / "bin/python")


def new_environment(python: Python, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    run([python.executable, "-m", "venv", "--without-pip", folder])


def install(name: str, what: str, python: Python, interpreter: Path, *arguments: object) -> None:
    # Wheels only, but for an sdist's own: what is not there as a wheel should not be built in passing.
    options: tuple[object, ...] = () if "--no-binary=fusedcell" in arguments else ("--only-binary=:all:",)
    if python.architecture != platform.machine():
        # An emulated TLS handshake takes longer than servers wait.
        folder = WORK / "downloads" / name
        step(name, f"{what}: download", download, python, folder, *arguments)
        options += ("--no-index", "--find-links", folder)
    step(name, what, pip, interpreter, "install", *options, *arguments)


def download(python: Python, folder: Path, *arguments: object) -> None:
    # pip does not let a newer manylinux tag imply the older ones.
    tags = [f"manylinux_2_{minor}_{python.architecture}" for minor in range(17, 40)]
    platforms = [f"--platform={tag}" for tag in (*tags, f"manylinux2014_{python.architecture}")]
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python.version}", *platforms]
    run([sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--dest", folder, *target, *arguments])


def pip(interpreter: Path, *arguments: object) -> str:
    """This Python's pip, at work in the other."""
    return run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", interpreter, *arguments])


def blocks(page: str) -> list[str]:
    """Of Python."""
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def tutorial() -> str:
    """It needs NumPy alone; its last stream is an LSTM's of 128 units."""
    return "\n".join([*blocks("docs/index.md"), "assert y.shape == (128,) and np.isfinite(y).all()"])


def make_file(torch: str) -> None:
    run([torch, "-c", blocks("README.md")[0]])


def quick_start() -> str:
    """What the README has after the file is made; it streams, calls and packs in int8."""
    checks = [
        f"assert fc.__version__ == {project_version()!r}, fc.__version__",
        "assert y.shape == (1,) and whole.shape == (1, 100, 1)",
        "assert small.nbytes < model.nbytes / 2",
    ]
    return "\n".join(["import fusedcell as fc", *blocks("README.md")[1:], *checks])


def run_all(name: str, starts: Mapping[str, str], interpreter: Path, cpu: str | None = None) -> None:
    for what, code in starts.items():
        step(name, f"{cpu}: {what}" if cpu else what, run, [interpreter, "-W", "error", "-c", code], cpu)


def tiers_on(interpreter: Path, cpu: str) -> list[str]:
    return run([interpreter, "-c", "import fusedcell as fc; print(*fc.isas())"], cpu).split()


def suite(interpreter: Path, cpu: str | None, *selection: str) -> str:
    """pytest's closing line."""
    # The folder holds this machine's Python's files, which another must not read.
    output = run([interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no", *selection], cpu, ROOT)
    closing = output.strip().splitlines()[-1]
    if not re.search(r"\b[1-9]\d* passed\b", closing):
        raise FailedError(f"no test passed: {closing}")
    return closing.strip("= ")


def run(command: list[Any], cpu: str | None = None, folder: Path | None = None) -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FUSEDCELL", "PYTEST"))
    }
    environment |= {
        "PYTHONPYCACHEPREFIX": str(WORK / "pycache"),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(WORK / "hypothesis"),
    }
    if cpu is not None:
        environment["QEMU_CPU"] = cpu + QEMU_OPTIONS.get(cpu, "")
        if cpu == "Nehalem":
            environment["OPENBLAS_CORETYPE"] = cpu  # NumPy's OpenBLAS takes QEMU's for a newer one, and crashes
    EMPTY.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        command,
        cwd=folder or EMPTY,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode != 0:
        lines = done.stdout.splitlines()
        raise FailedError("\n".join([f"{' '.join(map(str, command))[:300]}: status {done.returncode}", *lines[-100:]]))
    return done.stdout


def step(name: str, what: str, function: Callable[..., object], *arguments: object) -> None:
    start = time.monotonic()
    result = function(*arguments)
    closing = f": {result}" if function is suite else ""
    print(f"{name}: {what}{closing} ({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
