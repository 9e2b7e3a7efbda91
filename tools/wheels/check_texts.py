"""Hold the texts of the repository against the version that CMakeLists.txt has, before anything of a release is built.

CHANGELOG.md begins with the version and its date, C++ programs are told to ask CMake for it, and no other commit has
its tag.
"""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date

from pythons import ROOT, project_version


def main() -> int:
    release = project_version()
    faults = [*changelog_faults(release), *cmake_faults(release), *tag_faults(release)]
    print(f"texts of {release}: {'; '.join(faults) or 'ok'}")
    return 1 if faults else 0


def changelog_faults(release: str) -> list[str]:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(r"^## (.+)\n+(.*)", text, re.MULTILINE)
    heading, first_line = found.groups() if found else ("", "")
    name, _, day = heading.partition(" - ")
    if name != release:
        return [f"CHANGELOG.md begins with {name or 'nothing'}, expected {release}"]
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", day) or date.fromisoformat(day) > date.today():
        return [f"CHANGELOG.md dates {release} {day or 'not at all'}, expected a day until today, as 2026-01-31"]
    return [] if first_line else [f"CHANGELOG.md says nothing of {release}"]


def cmake_faults(release: str) -> list[str]:
    minor = release.rpartition(".")[0]
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("CMakeLists.txt")]
    return [
        f"{page.relative_to(ROOT)} asks for fusedcell {asked}, expected {minor}"
        for page in sorted(pages)
        for asked in re.findall(r"find_package\(fusedcell ([0-9.]+)", page.read_text(encoding="utf-8"))
        if asked != minor
    ]


def tag_faults(release: str) -> list[str]:
    tagged = git("rev-parse", "--quiet", "--verify", f"v{release}^{{commit}}")
    return [f"v{release} is the tag of another commit"] if tagged not in ("", git("rev-parse", "HEAD")) else []


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, text=True, capture_output=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
