"""Hold the files in dist against what a release promises of them, without running them.

A wheel: auditwheel finds its platform tags right; its extension exports its init function alone, has no debug
information and needs only glibc; it is under 2 MB, and has the sources' Python files and no others.
The sdist: has every tracked file but those of CI.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from elftools.elf.elffile import ELFFile
from pythons import ROOT

DIST = ROOT / "dist"
LARGEST = 2_000_000
# glibc's, which every manylinux machine has.
LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"} | {
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
}


def main() -> int:
    wheels = sorted(DIST.glob("*.whl"))
    sdists = sorted(DIST.glob("*.tar.gz"))  # none where wheels were chosen
    if not wheels:
        sys.exit(f"check.py: no wheels in {DIST}")
    failed = 0
    for path in [*sdists, *wheels]:
        faults = sdist_faults(path) if path in sdists else wheel_faults(path)
        failed += bool(faults)
        print(f"{path.name}: {'; '.join(faults) or 'ok'}")
    return 1 if failed else 0


def sdist_faults(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()} - {"", "PKG-INFO"}
    tracked = set(
        subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True, check=True).stdout.split()
    )
    expected = {name for name in tracked if not name.startswith(".ci/")}
    return [
        f"{what}: {', '.join(sorted(names)[:5])}"
        for what, names in (("lacks", expected - names), ("has besides", names - expected))
        if names
    ]


def wheel_faults(path: Path) -> list[str]:
    faults = []
    if path.stat().st_size >= LARGEST:
        faults.append(f"{path.stat().st_size} bytes, expected under {LARGEST}")
    platforms = path.stem.split("-")[4]
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        extensions = [name for name in names if name.endswith(".so")]
        images = [archive.read(name) for name in extensions]
    python = {
        str(file.relative_to(ROOT / "python")) for file in (ROOT / "python").rglob("*.py*") if file.suffix != ".pyc"
    }
    python |= {"fusedcell/py.typed"}
    contents = {name for name in names if not name.endswith("/") and ".dist-info/" not in name} - set(extensions)
    for what, which in (("lacks", python - contents), ("has besides", contents - python)):
        if which:
            faults.append(f"{what} {', '.join(sorted(which)[:5])}")
    if len(extensions) != 1:
        faults.append(f"extensions {extensions}, expected one")
    for image in images:
        faults += extension_faults(ELFFile(io.BytesIO(image)))
    faults += auditwheel_faults(path, platforms.split("."))
    return faults


def extension_faults(elf: ELFFile) -> list[str]:
    faults = []
    sections = {section.name for section in elf.iter_sections()}
    unwanted = {name for name in sections if name.startswith(".debug") or name in (".symtab", ".gnu.debuglink")}
    if unwanted:
        faults.append(f"sections {', '.join(sorted(unwanted))}")
    exported = {
        symbol.name
        for symbol in elf.get_section_by_name(".dynsym").iter_symbols()
        if symbol.entry.st_shndx != "SHN_UNDEF" and symbol.entry.st_info.bind != "STB_LOCAL"
    }
    if exported != {"PyInit__core"}:
        faults.append(f"exports {', '.join(sorted(exported)[:5])}, expected PyInit__core alone")
    tags = list(elf.get_section_by_name(".dynamic").iter_tags())
    needed = {tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"}
    if needed - LIBRARIES:
        faults.append(f"needs {', '.join(sorted(needed - LIBRARIES))}")
    if any(tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH", "DT_TEXTREL") for tag in tags):
        faults.append("has a run path or text relocations")
    stack = [segment for segment in elf.iter_segments() if segment.header.p_type == "PT_GNU_STACK"]
    if not stack or stack[0].header.p_flags & 1:
        faults.append("asks for an executable stack")
    return faults


def auditwheel_faults(path: Path, platforms: list[str]) -> list[str]:
    """What auditwheel calls the oldest platform must be what the file's name says."""
    show = subprocess.run([sys.executable, "-m", "auditwheel", "show", "--json", path], text=True, capture_output=True)
    if show.returncode != 0:
        return [f"auditwheel: {show.stderr.strip()}"]
    return [] if json.loads(show.stdout)["overall_tag"] in platforms else [f"auditwheel: {show.stdout}"]


if __name__ == "__main__":
    sys.exit(main())
