"""Counts the instructions that a step takes, and holds them against bench/instruction_budgets.json.

A count does not depend on a machine's load or clock, so it guards against regressions where a time cannot. Counts come
from the runner bench/latency.cc, under Valgrind for the tiers of x86-64 (it has neither AVX-512 nor AVX-VNNI) and under
QEMU for those of AArch64. Each is the difference of two runs, which leaves the steps that only the longer one makes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BUDGETS = ROOT / "bench" / "instruction_budgets.json"

ABOVE = 0.02
ABOVE_WITH_ANOTHER_COMPILER = 0.15
BELOW = 0.05

CELLS = ("lstm", "gru", "gru_reset_before", "rnn")
DTYPES = ("float32", "bfloat16", "float16", "int8")

# Options of the runner, and the steps of its two runs. Kernels go through the weights forwards and backwards in turns,
# so that only an even number of steps is the same again.
MODES: dict[str, tuple[list[str], tuple[int, int]]] = {
    "step": ([], (2, 4)),
    "batch of 4": (["--batch", "4"], (2, 4)),
    "sequence": (["--mode", "sequence"], (32, 64)),
}

# 17 units leave a remainder whatever the vectors, and 64 none; 256 is loops over k alone. Rows that share a pass over
# the weights have kernels of their own, which more steps or units only repeat.
HIDDEN = {"step": (17, 64, 256), "batch of 4": (64,), "sequence": (17, 64)}
HIDDEN_SCALAR = {"step": (17, 64), "batch of 4": (64,), "sequence": (17,)}


class Tier(NamedTuple):
    name: str
    dtypes: tuple[str, ...] = DTYPES
    hidden: Mapping[str, tuple[int, ...]] = HIDDEN
    cpu: str = ""


class Arch(NamedTuple):
    name: str
    preset: str
    tools: dict[str, str]  # what must be there, and the Debian package that has it
    tiers: tuple[Tier, ...]


ARCHS = (
    Arch(
        "x86-64",
        "dev",
        {"valgrind": "valgrind", "g++": "g++"},
        (Tier("avx2"), Tier("sse41", hidden=HIDDEN_SCALAR), Tier("scalar", hidden=HIDDEN_SCALAR)),
    ),
    Arch(
        "aarch64",
        "aarch64",
        {"qemu-aarch64": "qemu-user", "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu", "gcc": "gcc"},
        (
            Tier("neon", cpu="cortex-a53"),
            Tier("neon_ld64", dtypes=("float32", "bfloat16", "float16"), cpu="cortex-a53"),
            Tier("dotprod", dtypes=("int8",), cpu="neoverse-n1"),
            Tier("dotprod_ld64", dtypes=("int8",), cpu="neoverse-n1"),
            Tier("i8mm", dtypes=("int8",), cpu="max"),
            Tier("scalar", hidden=HIDDEN_SCALAR, cpu="cortex-a53"),
        ),
    ),
)


class Case(NamedTuple):
    tier: Tier
    cell: str
    dtype: str
    hidden: int
    mode: str

    def __str__(self) -> str:
        return f"{self.tier.name} {self.cell} {self.dtype} {self.hidden} {self.mode}"


def cases(arch: Arch) -> list[Case]:
    return [
        Case(tier, cell, dtype, hidden, mode)
        for tier in arch.tiers
        for cell in CELLS
        for dtype in tier.dtypes
        for mode, sizes in tier.hidden.items()
        for hidden in sizes
    ]


class Finding(NamedTuple):
    fails: bool
    text: str


def compare(recorded: Mapping[str, Any], compiler: str, counts: Mapping[str, float]) -> list[Finding]:
    """What is to be said about the counts of one architecture, given the budgets recorded for it."""
    budgets: Mapping[str, float] = recorded.get("instructions", {})
    same_compiler = recorded.get("compiler") == compiler
    largest = ABOVE if same_compiler else ABOVE_WITH_ANOTHER_COMPILER
    findings = []
    if not same_compiler:
        findings.append(Finding(False, f"budgets are of {recorded.get('compiler')}, and this is {compiler}"))
    for name, count in counts.items():
        budget = budgets.get(name)
        if budget is None:
            findings.append(Finding(True, f"{name}: {count:g}, and there is no budget"))
            continue
        change = count / budget - 1
        if change > ABOVE or change < -BELOW:
            text = f"{name}: {count:g} instructions a step, budget {budget:g} ({change:+.1%})"
            findings.append(Finding(change > largest, text))
    findings += [
        Finding(True, f"{name}: a budget of nothing that is counted") for name in budgets if name not in counts
    ]
    return findings


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, **options)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def runner(arch: Arch) -> Path:
    run(["tools/build_cpp.sh", arch.preset])
    return ROOT / "build" / arch.preset / "bench" / "fusedcell_latency"


def emulated(cpu: str) -> list[str]:
    return ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu", cpu]


def valgrind_counter(program: Path, folder: Path) -> Callable[[Tier, list[str]], int]:
    def count(_: Tier, arguments: list[str]) -> int:
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program), *arguments]
        collected = re.search(r"Collected : (\d+)", run(command).stderr)
        if collected is None:
            raise SystemExit(f"{' '.join(command)}: no count in what it prints")
        return int(collected[1])

    return count


def qemu_counter(program: Path, folder: Path) -> Callable[[Tier, list[str]], int]:
    plugin = folder / "insn_count.so"
    run(["tools/aarch64/build_plugin.sh", str(plugin)])

    def count(tier: Tier, arguments: list[str]) -> int:
        out = folder / "-".join([tier.name, *arguments])
        run([*emulated(tier.cpu), "-plugin", f"{plugin},out={out}", str(program), *arguments])
        return int(out.read_text())

    return count


def count_all(arch: Arch, program: Path) -> dict[str, float]:
    make_counter = qemu_counter if arch.name == "aarch64" else valgrind_counter

    with TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        count = make_counter(program, Path(folder))

        def per_step(case: Case) -> float:
            options, (short, long) = MODES[case.mode]
            arguments = ["--isa", case.tier.name, "--cell", case.cell, "--dtype", case.dtype, *options]
            arguments += ["--hidden", str(case.hidden), "--count-steps"]
            difference = count(case.tier, [*arguments, str(long)]) - count(case.tier, [*arguments, str(short)])
            return round(difference / (long - short), 1)

        names = cases(arch)
        return dict(zip(map(str, names), pool.map(per_step, names), strict=True))


def check_tools() -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        raise SystemExit(f"instructions are counted on x86-64, and this is {platform.machine()}")
    tools = {tool: package for arch in ARCHS for tool, package in arch.tools.items()}
    missing = {tool: package for tool, package in tools.items() if shutil.which(tool) is None}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise SystemExit(f"not installed: {', '.join(missing)}. On Debian and Ubuntu: apt-get install {packages}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--update", action="store_true", help="write the counts as the new budgets")
    update = parser.parse_args().update
    check_tools()

    recorded = json.loads(BUDGETS.read_text()) if BUDGETS.exists() else {}
    new: dict[str, Any] = {}
    failed = False
    for arch in ARCHS:
        program = runner(arch)
        launcher = emulated("max") if arch.name == "aarch64" else []
        compiler = run([*launcher, str(program), "--compiler"]).stdout.strip()
        counts = count_all(arch, program)
        new[arch.name] = {"compiler": compiler, "instructions": counts}
        findings = compare(recorded.get(arch.name, {}), compiler, counts)
        failures = sum(finding.fails for finding in findings)
        for finding in findings if recorded else []:
            print(f"{arch.name}: {'FAILED: ' if finding.fails and not update else ''}{finding.text}")
        outcome = "written" if update else f"{failures} failed"
        print(f"{arch.name}: {len(counts)} counts with {compiler}, {outcome}")
        failed = failed or failures > 0
    if update:
        BUDGETS.write_text(json.dumps(new, indent=1) + "\n")
        return 0
    if failed:
        print("`make count-update` writes these counts as the new budgets", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
