"""Models the inner loops of the AArch64 kernels with llvm-mca: cycles an iteration against the limit of the ports.

The loops are cut out of the tiers' object files, so that they are what a compiler made of the kernels, and not a copy.
llvm-mca knows a core's ports, latencies and widths; it takes every load from the nearest cache and follows no branch.

    python tools/aarch64/mca.py [--clang]

prints the tables of docs/arm.md, for the cross compiler's code or, with --clang, for that of the package ziglang.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "aarch64"
CORES = ("cortex-a53", "cortex-a55", "cortex-a510", "neoverse-n1", "neoverse-v1", "neoverse-v2")
MCA = "llvm-mca-19"
ITERATIONS = 100


class Loop(NamedTuple):
    """A kernel's loop over k: where it is, and the weights that one of its multiply-adds reads."""

    name: str
    tier: str
    function: str  # up to its last arguments, the first of which is how many panels or vectors it takes
    multiply: str
    weight_bytes: float


FLOAT32 = "FloatWeights<Float32Loads>"
BFLOAT16 = "FloatWeights<Bfloat16Loads>"
FLOAT16 = "FloatWeights<Float16Loads>"
LOOPS = (
    Loop("float32 LSTM", "neon", f"BlockTile<Lstm, {FLOAT32}", "fmla", 16),
    Loop("float32 GRU", "neon", f"BlockTile<GruResetAfter, {FLOAT32}", "fmla", 16),
    Loop("float32 LSTM, neon_ld64", "neon_ld64", f"BlockTile<Lstm, {FLOAT32}", "fmla", 16),
    Loop("float32 LSTM, 6 rows", "neon", f"SumRows<{FLOAT32}, 6", "fmla", 16 / 6),
    Loop("bfloat16 LSTM", "neon", f"BlockTile<Lstm, {BFLOAT16}", "fmla", 8),
    Loop("float16 LSTM", "neon", f"BlockTile<Lstm, {FLOAT16}", "fmla", 8),
    Loop("int8 LSTM, neon", "neon", "BlockTile<Lstm, Int8Weights", "sadalp", 16),
    Loop("int8 LSTM, dotprod", "dotprod", "BlockTile<Lstm, Int8Weights", "sdot", 16),
    Loop("int8 GRU, dotprod", "dotprod", "BlockTile<GruResetAfter, Int8Weights", "sdot", 16),
    Loop("int8 LSTM, dotprod_ld64", "dotprod_ld64", "BlockTile<Lstm, Int8Weights", "sdot", 16),
    Loop("int8 LSTM, dotprod, 6 rows", "dotprod", "SumRows<Int8Weights, 6", "sdot", 16 / 6),
    Loop("int8 LSTM, i8mm", "i8mm", "BlockTile<Lstm, Int8Weights", "sdot", 16),
    Loop("int8 LSTM, i8mm, 6 rows", "i8mm", "SumRows<Int8Weights, 6", "smmla", 16 / 3),
)

# Name, function, and divisions on the way, two for a panel: two panels, and the last of an odd number.
GATES = (
    ("LSTM gates, 8 units", "FinishApart<Lstm>", 4),
    ("LSTM gates, 4 units", "FinishApart<Lstm>", 2),
    ("GRU gates, 8 units", "FinishApart<GruResetAfter>", 4),
    ("GRU gates, 4 units", "FinishApart<GruResetAfter>", 2),
)


class Instruction(NamedTuple):
    address: int
    text: str

    @property
    def mnemonic(self) -> str:
        return self.text.split(maxsplit=1)[0]

    @property
    def target(self) -> int | None:
        """Where a branch goes to; a call returns, so it is none."""
        branch = re.fullmatch(r"(?:b(?:\.\w+)?|cbn?z\s+\w+,|tbn?z\s+\w+, #\d+,)\s+([0-9a-f]+) <.*>", self.text)
        return int(branch[1], 16) if branch else None


Body = list[Instruction]


def functions(disassembly: str, tier: str) -> dict[str, Body]:
    """The functions of what `objdump -dC --no-show-raw-insn` prints, by name without namespaces and parameters."""
    found: dict[str, Body] = {}
    body: Body = []
    for line in disassembly.splitlines():
        if head := re.fullmatch(r"[0-9a-f]+ <(.*)>:", line):
            name = re.sub(rf"fusedcell::|{tier}::|\(anonymous namespace\)::", "", head[1])
            body = found.setdefault(name.split("(")[0].removeprefix("void "), [])
        elif instruction := re.match(r"\s*([0-9a-f]+):\s+(.*?)\s*(?://.*)?$", line):
            body.append(Instruction(int(instruction[1], 16), instruction[2]))
    return found


def loops(body: Body) -> list[Body]:
    """From the target of each backward branch to the branch. Unconditional ones come back from code out of line."""
    index = {instruction.address: i for i, instruction in enumerate(body)}
    spans = {
        (index[instruction.target], i)
        for i, instruction in enumerate(body)
        if instruction.mnemonic != "b" and instruction.target in index and index[instruction.target] <= i
    }
    return [body[first : last + 1] for first, last in sorted(spans)]


def count(body: Iterable[Instruction], mnemonic: str) -> int:
    return sum(instruction.mnemonic == mnemonic for instruction in body)


def multiply_loop(body: Body, mnemonic: str) -> Body:
    """The innermost loop that has most multiply-adds; the longer of two, because the other one takes what is left."""
    every = loops(body)
    innermost = [loop for loop in every if not any(other != loop and set(other) < set(loop) for other in every)]
    return max(innermost, key=lambda loop: (count(loop, mnemonic), len(loop)))


def gates_path(body: Body, divisions: int) -> Body:
    """The shortest way through a loop with so many divisions that makes no call, as a run without a trace does."""
    paths = [path for loop in loops(body) for path in ways(loop) if count(path, "fdiv") == divisions]
    return min(paths, key=len)


def ways(loop: Body) -> list[Body]:
    """Every way without a call from the loop's head to the branch that goes back to it."""
    index = {instruction.address: i for i, instruction in enumerate(loop)}
    done: list[Body] = []
    open_ways: list[tuple[int, Body]] = [(0, [])]
    while open_ways:
        i, path = open_ways.pop()
        while i < len(loop) and loop[i].mnemonic != "bl":
            instruction = loop[i]
            path = [*path, instruction]
            target = index.get(instruction.target) if instruction.target is not None else None
            if target == 0:
                done.append(path)
            elif target is not None and target > i:
                open_ways.append((target, path))
            if instruction.mnemonic == "b":
                break
            i += 1
    return done


def assembly(body: Body) -> str:
    """What llvm-mca reads. Branches go nowhere in particular, because it does not follow them."""
    lines = [re.sub(r"\s[0-9a-f]+ <.*>$", " .Lhead", instruction.text) for instruction in body]
    return "\n".join([".Lhead:", *lines, ""])


class Model(NamedTuple):
    cycles: float  # of an iteration
    limit: float  # by the ports and the width of the front end


def parse(report: str) -> Model:
    cycles = re.search(r"^Total Cycles:\s+(\d+)$", report, re.MULTILINE)
    limit = re.search(r"^Block RThroughput:\s+([\d.]+)$", report, re.MULTILINE)
    if cycles is None or limit is None:
        raise SystemExit(f"{MCA} printed no cycles:\n{report}")
    return Model(int(cycles[1]) / ITERATIONS, float(limit[1]))


def model(body: Body, core: str) -> Model:
    options = ["-mtriple=aarch64-linux-gnu", f"-mcpu={core}", "-mattr=+dotprod,+i8mm", f"-iterations={ITERATIONS}"]
    return parse(run([MCA, *options], assembly(body)))


def run(command: Sequence[str], text: str = "") -> str:
    done = subprocess.run(command, cwd=ROOT, input=text, text=True, capture_output=True)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def tile(found: dict[str, Body], loop: Loop) -> Body:
    """The one of the most panels, which all blocks but a matrix's last are."""
    widths = {
        int(match[1]): body
        for name, body in found.items()
        if (match := re.fullmatch(re.escape(loop.function) + r", (\d+)(?:, \w+)?>", name))
    }
    if not widths:
        raise SystemExit(f"{loop.tier}: no {loop.function}, ...> in the object file")
    return widths[max(widths)]


def cell(modelled: Model, weight_bytes: float) -> str:
    text = f"{modelled.cycles:.0f} / {modelled.limit:.0f} = {modelled.cycles / modelled.limit:.2f}"
    return f"{text}, {weight_bytes / modelled.cycles:.1f} B" if weight_bytes else text


def line(name: str, part: Body, weight_bytes: float) -> str:
    cells = [name, str(len(part)), *(cell(model(part, core), weight_bytes) for core in CORES)]
    return f"| {' | '.join(cells)} |"


def table(objects: dict[str, dict[str, Body]]) -> list[str]:
    lines = ["| loop | instructions | " + " | ".join(CORES) + " |", "|--|--|" + "--|" * len(CORES)]
    for loop in LOOPS:
        part = multiply_loop(tile(objects[loop.tier], loop), loop.multiply)
        lines.append(line(loop.name, part, count(part, loop.multiply) * loop.weight_bytes))
    for tier in ("neon", "neon_ld64"):
        suffix = "" if tier == "neon" else f", {tier}"
        for name, function, divisions in GATES:
            lines.append(line(name + suffix, gates_path(objects[tier][function], divisions), 0))
    return lines


def clang_object(command: str, tier: str) -> Path:
    """Compiles what the cross compiler has compiled by `command`, with the Clang of the package ziglang."""
    arguments = [word for word in shlex.split(command)[1:] if not word.startswith(("-f", "-m", "-W"))]
    output = BUILD / "clang" / f"{tier}.o"
    output.parent.mkdir(exist_ok=True)
    arguments[arguments.index("-o") + 1] = str(output)
    base = tier.removesuffix("_ld64")
    cpu = {"neon": "generic", "dotprod": "generic+v8_2a+dotprod", "i8mm": "generic+v8_2a+dotprod+i8mm"}[base]
    flags = ["-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-sanitize=undefined", f"-mcpu={cpu}"]
    run([sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-gnu.2.17", *flags, *arguments])
    return output


def object_files(clang: bool) -> dict[str, Path]:
    run(["tools/build_cpp.sh", "aarch64"])
    found = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        tier = Path(entry["file"]).stem
        if Path(entry["file"]).parent.name == "isa" and any(loop.tier == tier for loop in LOOPS):
            compiled = re.search(r" -o (\S+)", entry["command"])
            assert compiled is not None
            found[tier] = clang_object(entry["command"], tier) if clang else BUILD / compiled[1]
    return found


def need(tool: str, package: str) -> None:
    """Installs what is not there where that is possible, as setup.sh does."""
    if shutil.which(tool):
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise SystemExit(f"not installed: {tool}. On Debian and Ubuntu: apt-get install {package}")
    print(f"installing {package}", file=sys.stderr)
    run(["apt-get", "install", "-qq", "--no-install-recommends", package])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clang", action="store_true", help="the code of the package ziglang's Clang")
    clang = parser.parse_args().clang
    need("aarch64-linux-gnu-objdump", "g++-aarch64-linux-gnu")
    need(MCA, "llvm-19")
    objects = {}
    for tier, path in object_files(clang).items():
        objects[tier] = functions(run(["aarch64-linux-gnu-objdump", "-dC", "--no-show-raw-insn", str(path)]), tier)
    print("\n".join(table(objects)))


if __name__ == "__main__":
    main()
