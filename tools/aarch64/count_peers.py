"""Counts the instructions that a step takes on emulated AArch64 CPUs: ours, and those of other libraries' wheels.

tools/aarch64/setup.sh --peers and `tools/emulated/build.sh aarch64` come first. Prints tables in Markdown and writes
every count to build/count_peers.json. The counts are of tools/aarch64/count_calls.py under QEMU with the plugin
insn_count.so: same weights, same inputs, one thread, answers held against the float64 reference before anything is
counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
AARCH64 = ROOT / ".aarch64"
RESULTS = ROOT / "build" / "count_peers.json"

GATES = {"lstm": 4, "gru": 3}
SIZES = (32, 64, 128, 256, 512)
PEERS = ("onnxruntime", "ncnn")
OURS = "fusedcell"

# Over which the geometric mean is taken; above, memory decides, of which a count knows nothing.
MEAN_SIZES = (32, 64, 128, 256)

KINDS = {
    "sequence": "A step of a sequence, without Python: one call of 64 steps less one of 32",
    "step": "A call of one step from Python, all that it takes: 32 calls less 16",
}


class Cpu(NamedTuple):
    """A CPU by QEMU's name, and what Linux says of the real one, by which libraries choose kernels."""

    name: str
    qemu: str
    int8_products: tuple[int, int]  # that an instruction adds up at most: those with x in a sequence, and those with h
    part: int
    revision: tuple[int, int]
    features: str


_ARMV8_2 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs"

# QEMU 7.2 has no Neoverse V1: its `max` without what V1 lacks and with vectors of 256 bits is the nearest.
CPUS = (
    Cpu("cortex-a53", "cortex-a53", (8, 8), 0xD03, (0, 4), "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"),
    Cpu("neoverse-n1", "neoverse-n1", (16, 16), 0xD0C, (3, 1), _ARMV8_2),
    Cpu(
        "neoverse-v1",
        "max,pauth-impdef=on,sme=off,sve256=on",
        (32, 16),
        0xD40,
        (1, 1),
        f"{_ARMV8_2} jscvt fcma sha3 sm3 sm4 sha512 sve asimdfhm dit uscat ilrcpc flagm dcpodp svei8mm svebf16 i8mm "
        "bf16 dgh rng",
    ),
)


def cpuinfo(cpu: Cpu, processors: int) -> str:
    """/proc/cpuinfo of such a machine; QEMU would show that of the host, which crashes ONNX Runtime's import."""
    variant, revision = cpu.revision
    return "".join(
        f"processor\t: {processor}\nBogoMIPS\t: 50.00\nFeatures\t: {cpu.features}\n"
        f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: {variant:#x}\nCPU part\t: {cpu.part:#05x}\n"
        f"CPU revision\t: {revision}\n\n"
        for processor in range(processors)
    )


def make_root(cpu: Cpu, folder: Path) -> Path:
    """A root file system for QEMU: that of setup.sh and a /proc/cpuinfo."""
    root = folder / cpu.name
    (root / "proc").mkdir(parents=True)
    for entry in (AARCH64 / "root").iterdir():
        (root / entry.name).symlink_to(entry)
    (root / "proc" / "cpuinfo").write_text(cpuinfo(cpu, os.cpu_count() or 1), encoding="ascii")
    return root


def run(command: Sequence[str | Path], **options: Any) -> str:
    done = subprocess.run([str(part) for part in command], cwd=ROOT, text=True, capture_output=True, **options)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def count(cpu: Cpu, plugin: Path, folder: Path, cells: str, sizes: str) -> list[dict[str, Any]]:
    """Records of everything on one CPU."""
    version = (AARCH64 / "python-version").read_text().strip()
    python = AARCH64 / "root" / "usr" / "bin"
    counts = folder / f"{cpu.name}.counts"
    emulator: list[str | Path] = [
        "qemu-aarch64",
        "-L",
        make_root(cpu, folder),
        "-cpu",
        cpu.qemu,
        "-plugin",
        f"{plugin},out={counts}",
    ]
    program: list[str | Path] = [
        "-0",
        python / "python",
        python / f"python{version}",
        ROOT / "tools" / "aarch64" / "count_calls.py",
    ]
    arguments: list[str | Path] = [counts, ",".join(PEERS), cells, sizes]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FUSEDCELL"))}
    environment |= {
        "PYTHONPATH": str(AARCH64 / "peers"),
        "PYTHONPYCACHEPREFIX": str(AARCH64 / "pycache"),
        "PYTHONHASHSEED": "0",
        # Threads of other libraries, which would count.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    printed = run([*emulator, *program, *arguments], env=environment)
    return [{"cpu": cpu.name} | json.loads(line) for line in printed.splitlines()]


class Point(NamedTuple):
    kind: str
    cpu: str
    cell: str
    dtype: str
    size: int


Counts = dict[Point, dict[str, float]]


def least(records: Iterable[Mapping[str, Any]]) -> Counts:
    """The instructions of a step by library, each in the form of the work that takes it the fewest."""
    counts: Counts = {}
    for record in records:
        by_library = counts.setdefault(Point(*(record[field] for field in Point._fields)), {})
        instructions = median(record["instructions"])
        by_library[record["library"]] = min(instructions, by_library.get(record["library"], math.inf))
    return counts


def best_other(counts: Counts, point: Point) -> float:
    """The fewest instructions of another library: for int8, in float32 too, as that may be what it does best."""
    points = {point, point._replace(dtype="float32")}
    return min(
        instructions for other in points for library, instructions in counts.get(other, {}).items() if library != OURS
    )


def multiply_adds(point: Point) -> float:
    """Instructions that multiply and add, of a step that does nothing else and leaves no lane empty."""
    products = GATES[point.cell] * point.size**2
    cpu = next(cpu for cpu in CPUS if cpu.name == point.cpu)
    of_x, of_h = cpu.int8_products if point.dtype == "int8" else (4, 4)
    return products / of_x + products / of_h


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def spread(records: Iterable[Mapping[str, Any]], library: str) -> float:
    """By how much repeats of a count differ, at most, as a part of it."""
    repeats = [record["instructions"] for record in records if record["library"] == library]
    return max((max(counts) - min(counts)) / median(counts) for counts in repeats)


def failures(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is wrong with those that were not counted."""
    return [
        f"{', '.join(str(record[field]) for field in (*Point._fields, 'library', 'form'))}: {record['failure']}"
        for record in records
        if "failure" in record
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["--"] * len(head), *rows))


def thousands(instructions: float) -> str:
    """To three digits."""
    digits = max(0, 2 - math.floor(math.log10(instructions / 1000)))
    return f"{instructions / 1000:.{digits}f}"


def tables(counts: Counts, kind: str) -> str:
    """Ours over the best of the others, and the counts themselves: CPUs, cells and dtypes down, sizes across."""
    sizes = sorted({point.size for point in counts if point.kind == kind})
    mean_sizes = [size for size in sizes if size in MEAN_SIZES]
    ratios, all_counts = [], []
    for cpu, cell, dtype in dict.fromkeys((point.cpu, point.cell, point.dtype) for point in counts):
        row = [Point(kind, cpu, cell, dtype, size) for size in sizes]
        name = f"{cpu}, {cell.upper()}, {dtype}"
        over_best = {point.size: counts[point][OURS] / best_other(counts, point) for point in row}
        least_possible = {point.size: multiply_adds(point) / best_other(counts, point) for point in row}
        means = [geometric_mean([by_size[size] for size in mean_sizes]) for by_size in (over_best, least_possible)]
        ratios.append([name, *(f"{value:.2f}" for value in (*over_best.values(), *means))])
        libraries = [[counts[point].get(library) for library in (OURS, *PEERS)] for point in row]
        all_counts.append([name, *(", ".join(thousands(n) if n else "--" for n in size) for size in libraries)])
    columns = [str(size) for size in sizes]
    mean = f"mean of {mean_sizes[0]} to {mean_sizes[-1]}"
    return "\n\n".join(
        [
            f"{KINDS[kind]}.\nInstructions of {OURS} over the fewest of another library:",
            table(["I = H", *columns, mean, "products alone"], ratios),
            f"Thousands of instructions: {', '.join((OURS, *PEERS))}.",
            table(["I = H", *columns], all_counts),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cells", default=",".join(GATES), help="with commas between (default: %(default)s)")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="with commas between (default: %(default)s)")
    options = parser.parse_args()
    if not (AARCH64 / "peers").is_dir() or not (AARCH64 / "install").is_dir():
        raise SystemExit("run tools/aarch64/setup.sh --peers and `tools/emulated/build.sh aarch64` first")

    with TemporaryDirectory() as name, ThreadPoolExecutor(os.cpu_count()) as pool:
        folder = Path(name)
        plugin = folder / "insn_count.so"
        run([ROOT / "tools" / "aarch64" / "build_plugin.sh", plugin])
        found = pool.map(lambda cpu: count(cpu, plugin, folder, options.cells, options.sizes), CPUS)
        records = [record for records in found for record in records]

    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    if wrong := failures(records):
        raise SystemExit("\n".join(wrong))
    versions = dict.fromkeys(f"{record['library']} {record['version']}" for record in records)
    apart = ", ".join(f"{spread(records, library):.1%}" for library in (OURS, *PEERS))
    print(f"{', '.join(versions)}; repeats of a count differ by {apart} at most.")
    counts = least(records)
    for kind in KINDS:
        print(f"\n{tables(counts, kind)}")


if __name__ == "__main__":
    main()
