"""Hold the files in dist, or in a folder that is named, against what a release promises of them, and run none of them.

Each file: its name and its metadata have the version of CMakeLists.txt, the index knows its classifiers and renders its
README. If REPOSITORY_URL is set, the metadata lead there, and no link of the README is relative.
A wheel: it is under 2 MB, and 5 MB when it is unpacked; it has the sources' Python files and no others.
A wheel of `make wheels`: auditwheel finds its platform tags right; its extension exports its init function alone, has
no debug information and needs only glibc.
The sdist: has every tracked file but those of CI.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from elftools.elf.elffile import ELFFile
from packaging.metadata import Metadata
from pythons import ROOT, project_version
from readme_renderer import markdown
from trove_classifiers import classifiers as known_classifiers

LARGEST, LARGEST_INSTALLED = 2_000_000, 5_000_000
# Of the wheels of build.py, which are made for the oldest glibc.
OWN_PLATFORM = "manylinux_2_17"
# Where auditwheel puts the C++ library for systems that need not have one, as those of musl.
GRAFTED = "fusedcell.libs/"
# glibc's, which every manylinux machine has.
LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"} | {
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
}


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist")
    paths = [*sorted(folder.glob("*.tar.gz")), *sorted(folder.glob("*.whl"))]
    if not paths:
        sys.exit(f"check.py: nothing in {folder}")
    failed = False
    for path in paths:
        faults = sdist_faults(path) if path.name.endswith(".tar.gz") else wheel_faults(path)
        failed |= bool(faults)
        print(f"{path.name}: {sizes(path)}: {'; '.join(faults) or 'ok'}")
    return int(failed)


def sizes(path: Path) -> str:
    if path.suffix != ".whl":
        return f"{path.stat().st_size / 1e6:.2f} MB"
    packed, unpacked = wheel_sizes(path)
    return f"{packed / 1e6:.2f} MB, unpacked {unpacked / 1e6:.2f} MB"


def wheel_sizes(path: Path) -> tuple[int, int]:
    """Packed and unpacked, without what auditwheel adds, and without what Python caches of it."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    added = sum(entry.compress_size for entry in entries if entry.filename.startswith(GRAFTED))
    unpacked = sum(entry.file_size for entry in entries if not entry.filename.startswith(GRAFTED))
    return path.stat().st_size - added, unpacked


def metadata_faults(path: Path, text: bytes) -> list[str]:
    faults = []
    metadata = Metadata.from_email(text)  # raises if it is not as the standards have it
    release = project_version()
    if str(metadata.version) != release or path.name.split("-")[1].removesuffix(".tar.gz") != release:
        faults.append(f"version {metadata.version}, expected {release}")
    classifiers = metadata.classifiers or []
    faults += [f"no classifier of the index: {each}" for each in classifiers if each not in known_classifiers]
    if found := re.search(r"-cp3(\d+)-", path.name):
        wanted = f"Programming Language :: Python :: 3.{found[1]}"
        faults += [] if wanted in classifiers else [f"lacks the classifier {wanted}"]
    page = markdown.render(metadata.description or "")
    links = re.findall(r' (?:href|src)="([^"]*)"', page or "")
    if not links:
        faults.append("the README is not rendered, or has no links")
    if repository := os.environ.get("REPOSITORY_URL"):
        urls = list((metadata.project_urls or {}).values())
        if not urls or not all(url.startswith(repository) for url in urls):
            faults.append(f"leads to {', '.join(urls) or 'no page'}, expected pages of {repository}")
        relative = [link for link in links if not re.match("https?://|#", link)]
        faults += [f"relative links in the README: {', '.join(relative[:5])}"] if relative else []
    return faults


def sdist_faults(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()} - {"", "PKG-INFO"}
        info = archive.extractfile(f"{path.name.removesuffix('.tar.gz')}/PKG-INFO")
        assert info
        faults = metadata_faults(path, info.read())
    tracked = set(
        subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True, check=True).stdout.split()
    )
    expected = {name for name in tracked if not name.startswith(".ci/")}
    return faults + [
        f"{what}: {', '.join(sorted(names)[:5])}"
        for what, names in (("lacks", expected - names), ("has besides", names - expected))
        if names
    ]


def wheel_faults(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.startswith(GRAFTED)]
        extensions = [name for name in names if name.endswith(".so")]
        images = [archive.read(name) for name in extensions]
        (metadata,) = (archive.read(name) for name in names if name.endswith(".dist-info/METADATA"))
    faults = metadata_faults(path, metadata)
    for size, most in zip(wheel_sizes(path), (LARGEST, LARGEST_INSTALLED), strict=True):
        if size >= most:
            faults.append(f"{size} bytes, expected under {most}")
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
    platforms = path.stem.split("-")[4].split(".")
    if any(platform.startswith(OWN_PLATFORM) for platform in platforms):
        for image in images:
            faults += extension_faults(ELFFile(io.BytesIO(image)))
        faults += auditwheel_faults(path, platforms)
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
