"""CPython interpreters and headers for each version and architecture that wheels are for.

x86-64 interpreters are this machine's own, where it has one with headers. Those that it lacks, and all AArch64 ones,
are unpacked from Debian's packages into .wheels/root, where nothing of them is installed: a script in the
interpreter's place starts it with its own C library, through QEMU where the architecture is another.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".wheels"
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
ARCHITECTURES = ("x86_64", "aarch64")

SUITES = {"3.11": "bookworm", "3.13": "trixie", "3.14": "forky"}  # Debian has one or two versions at a time
DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class NotToBeHadError(Exception):
    """There is no such interpreter here; the message says why."""


@dataclass(frozen=True)
class Python:
    version: str
    architecture: str
    executable: Path
    include: Path

    @property
    def tag(self) -> str:
        return "cp" + self.version.replace(".", "")

    @property
    def name(self) -> str:
        return f"{self.tag}-{self.architecture}"

    @property
    def suffix(self) -> str:
        """Of extension modules."""
        return f".cpython-{self.version.replace('.', '')}-{self.architecture}-linux-gnu.so"


def project_version() -> str:
    """That of fusedcell, which is to be released."""
    found = re.search(r"project\(fusedcell VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert found
    return found[1]


def find(version: str, architecture: str) -> Python:
    """The interpreter, fetched if this is the first time."""
    if architecture == platform.machine():
        for candidate in installed(version):
            if python := examined(candidate, version, architecture):
                return python
    return unpacked(version, architecture)


def installed(version: str) -> list[Path]:
    found = [Path(path) / f"python{version}" for path in os.environ["PATH"].split(os.pathsep)]
    found += sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    return [path for path in found if os.access(path, os.X_OK)]


def examined(path: Path, version: str, architecture: str) -> Python | None:
    """None if it does not run, is another Python, or has no headers."""
    question = (
        "import json, platform, sys, sysconfig, venv; print(json.dumps({"
        "'executable': sys._base_executable, 'version': '%d.%d' % sys.version_info[:2], "
        "'architecture': platform.machine(), 'include': sysconfig.get_path('platinclude'), "
        "'suffix': sysconfig.get_config_var('EXT_SUFFIX')}))"
    )
    run = subprocess.run([path, "-c", question], capture_output=True, text=True)
    if run.returncode != 0:
        return None
    answer = json.loads(run.stdout)
    python = Python(version, architecture, Path(answer["executable"]), Path(answer["include"]))
    same = (answer["version"], answer["architecture"], answer["suffix"]) == (version, architecture, python.suffix)
    return python if same and (python.include / "Python.h").is_file() else None


def root_of(version: str, architecture: str) -> Path:
    return WORK / "root" / f"{architecture}-{version}"


def unpacked(version: str, architecture: str) -> Python:
    if version not in SUITES:
        raise NotToBeHadError(f"not installed here, and Debian has {', '.join(SUITES)}")
    root = root_of(version, architecture)
    python = Python(version, architecture, root / "usr/bin/python", root / f"usr/include/python{version}")
    emulator = None if architecture == platform.machine() else emulator_of(architecture)
    stamp = root.parent / f"{root.name}.stamp"
    if not stamp.is_file():
        shutil.rmtree(root, ignore_errors=True)
        fetch(version, architecture, root)
        write_launcher(python.executable, python, emulator)
        stamp.touch()
    if examined(python.executable, version, architecture) is None:
        raise NotToBeHadError(f"Debian's is unpacked in {root} and does not run")
    return python


def emulator_of(architecture: str) -> str:
    path = shutil.which(f"qemu-{architecture}")
    if path is None:
        raise NotToBeHadError(f"qemu-{architecture} is not installed (Debian: qemu-user)")
    return path


def fetch(version: str, architecture: str, root: Path) -> None:
    """Unpack Debian's packages, with apt's state in a folder that goes afterwards: this machine's own hears nothing."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb") and KEYRING.is_file()):
        raise NotToBeHadError("not installed here, and Debian's apt-get, dpkg-deb and archive keyring are not all here")
    print(f"wheels: fetching CPython {version} for {architecture}", file=sys.stderr)
    state = WORK / "apt" / root.name
    shutil.rmtree(state, ignore_errors=True)
    for folder in ("lists/partial", "archives/partial"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()  # empty: the whole chain of dependencies is fetched
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {debian_mirror()} {SUITES[version]} main\n")
    settings = {
        "APT::Architecture": DEBIAN_ARCHITECTURES[architecture],
        "APT::Architectures": DEBIAN_ARCHITECTURES[architecture],
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "-",
    }
    apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in settings.items())]
    archives = state / "archives"
    packages = [f"python{version}-minimal", f"libpython{version}-stdlib", "libstdc++6"]
    for command in (
        [*apt, "update"],
        [*apt, "install", "-y", "--download-only", "--no-install-recommends", *packages],
        [*apt, "download", f"libpython{version}-dev"],  # without what it depends on, which is for linking
    ):
        run = subprocess.run(command, cwd=archives, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if run.returncode != 0:
            raise NotToBeHadError(f"{' '.join(map(str, command[-3:]))}: {run.stderr.strip()}")
    root.mkdir(parents=True)
    for package in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
    for link in ("lib", "lib64"):  # a package's that nobody here needs
        if not (root / link).exists() and (root / "usr" / link).exists():
            (root / link).symlink_to(f"usr/{link}")
    include = root / f"usr/include/python{version}"
    # Debian's pyconfig.h only includes the architecture's own, by a path that no cross compiler searches.
    shutil.copy(root / f"usr/include/{architecture}-linux-gnu/python{version}/pyconfig.h", include)
    shutil.rmtree(state)


def debian_mirror() -> str:
    """As this machine's own apt knows it."""
    wanted = ("--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages")
    lines = subprocess.run(["apt-get", "indextargets", *wanted], capture_output=True, text=True).stdout.splitlines()
    for line in lines:
        origin, label, uri = line.split("|")
        if (origin, label) == ("Debian", "Debian"):
            return uri
    raise NotToBeHadError("not installed here, and apt knows no archive of Debian's (has apt-get update been run?)")


def write_launcher(path: Path, python: Python, emulator: str | None) -> None:
    """A script in an interpreter's place, which becomes its sys.executable, so that it can start itself again.

    The interpreter takes its name from argv[0]: by that, it finds the virtual environment that the script lies in.
    """
    root = root_of(python.version, python.architecture)
    interpreter = python.executable
    of_debian = interpreter.is_relative_to(root)
    if of_debian:
        interpreter = root / f"usr/bin/python{python.version}"
    if emulator is not None:
        libraries = f'-L "{root}"' if of_debian else ""
        start = f'"{emulator}" {libraries} -0 "$0" "{interpreter}"'
    else:
        (loader,) = root.glob("lib64/ld-linux-*.so.*")
        libraries = ":".join(f"{root}/{folder}/{python.architecture}-linux-gnu" for folder in ("usr/lib", "lib"))
        start = f'"{loader}" --argv0 "$0" --library-path "{libraries}" "{interpreter}"'
    path.unlink(missing_ok=True)
    path.write_text(f'#!/bin/sh\nexec {start} "$@"\n')
    path.chmod(0o755)
