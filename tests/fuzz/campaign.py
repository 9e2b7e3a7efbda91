"""All targets in turn, for so many seconds: ``python -m fuzz.campaign SECONDS FOLDER [TARGET ...]``.

A target's process ends at a finding and is started again. FOLDER keeps each target's corpus, what was found and the
last lines of that process; results.json has the figures of all campaigns in it, summed up.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fuzz.targets import TARGETS, Target

ROUND = 120  # seconds that a target runs at most before its turn is over
_RUNS = re.compile(r"stat::number_of_executed_units: *([0-9]+)")
_RUNS_SO_FAR = re.compile(r"^#([0-9]+)\s", re.MULTILINE)


def turn(target: Target, seconds: int, folder: Path) -> tuple[int, str | None]:
    """One process of a target: how many inputs it ran, and the end of what it said if it found something."""
    log = folder / f"{target.name}.log"
    found = folder / "found" / target.name
    found.mkdir(parents=True, exist_ok=True)
    folders = [str(folder / kind / target.name) for kind in ("seeds", "corpus")]
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={found}/"]
    command = [sys.executable, "-m", "fuzz", target.name, *folders, *options]
    with log.open("wb") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    text = log.read_text(errors="replace")
    counts = _RUNS.findall(text) or _RUNS_SO_FAR.findall(text) or ["0"]
    return int(counts[-1]), text[-6000:] if code else None


def signature(text: str) -> str:
    """What tells one finding from another: the exception and the last line of our own, or the sanitizer's word."""
    lines = [line.strip() for line in text.splitlines()]
    errors = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception|Finding|Warning)\b", line)]
    summary = [line for line in lines if line.startswith(("SUMMARY", "==ERROR", "ERROR: libFuzzer"))]
    where = [line for line in lines if line.startswith("File ") and "fusedcell" in line]
    return " | ".join([*errors[:1], *where[-1:], *summary[-1:]]) or (lines[-1] if lines else "no output")


def cpu_seconds() -> float:
    """Of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def campaign(seconds: float, folder: Path, targets: Sequence[Target]) -> int:
    results_file = folder / "results.json"
    folder.mkdir(parents=True, exist_ok=True)
    results = json.loads(results_file.read_text()) if results_file.exists() else {}
    total = sum(target.share for target in targets)
    left = {target.name: seconds * target.share / total for target in targets}
    findings = 0
    while any(share >= 1 for share in left.values()):
        for target in targets:
            if left[target.name] < 1:
                continue
            start, cpu_start = time.monotonic(), cpu_seconds()
            runs, text = turn(target, int(max(1, min(ROUND, left[target.name]))), folder)
            took = time.monotonic() - start
            left[target.name] -= max(took, 1)
            result = results.setdefault(target.name, {"runs": 0, "seconds": 0, "cpu_seconds": 0, "findings": {}})
            result["runs"] += runs
            result["seconds"] = round(result["seconds"] + took, 1)
            result["cpu_seconds"] = round(result["cpu_seconds"] + cpu_seconds() - cpu_start, 1)
            if text is not None:
                findings += 1
                name = signature(text)
                print(f"{target.name}: {name}", flush=True)
                entry = result["findings"].setdefault(name, {"times": 0, "text": text})
                entry["times"] += 1
            results_file.write_text(json.dumps(results, indent=1))
    for name, result in results.items():
        print(
            f"{name}: {result['runs']} runs in {result['seconds']:.0f} s ({result['cpu_seconds']:.0f} s of CPU), "
            f"{len(result['findings'])} findings"
        )
    return findings


def main() -> None:
    chosen = sys.argv[3:] or list(TARGETS)
    targets = [TARGETS[name] for name in chosen]
    for target in targets:
        for needed in target.needs:
            if find_spec(needed) is None:
                sys.exit(f"{target.name} needs the package {needed}; or name the targets to run")
    sys.exit(campaign(float(sys.argv[1]), Path(sys.argv[2]), targets) > 0)


if __name__ == "__main__":
    main()
