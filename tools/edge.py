"""What the engine watch of examples/predictive_maintenance takes on a small AArch64 device, counted under QEMU.

Builds the C++ library of what that model needs alone (CMakePresets.json, edge) and the example's program, statically
linked; runs it on an emulated Cortex-A53 and, for the tiers with SDOT, a Neoverse N1; holds its answers against
Python's on this machine; and prints code, memory and instructions a prediction. A file that needs what was left out
must be refused.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import fusedcell as fc

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "predictive_maintenance"))
from run import Weights  # type: ignore[import-not-found] # in the example's folder
from simulation import fleet  # type: ignore[import-not-found] # likewise

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "predictive_maintenance"
MOST_CODE = 200_000  # bytes
TIERS = {"neon": "cortex-a53", "dotprod": "neoverse-n1", "dotprod_ld64": "neoverse-n1"}
ROUNDS = (1, 3)  # an even number more, as weights are walked there and back


def run(*command: str | Path, check: bool = True, isa: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"FUSEDCELL_ISA": isa}
    done = subprocess.run([str(part) for part in command], cwd=ROOT, text=True, capture_output=True, env=environment)
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def sizes_in(link_map: str, archive: str) -> dict[str, int]:
    """Bytes of each kind of section that a linker's map says were taken from an archive."""
    sizes: dict[str, int] = {}
    section = ""
    for line in link_map.partition("Linker script and memory map")[2].splitlines():
        if re.fullmatch(r" \.\S+", line):  # too long a name for the rest to stand on the same line
            section = line.split()[0]
        elif match := re.fullmatch(r" (\.\S+)?\s+0x[0-9a-f]+\s+0x([0-9a-f]+) (\S+)", line):
            name = (match[1] or section).split(".")[1]
            if f"{archive}(" in match[3]:
                sizes[name] = sizes.get(name, 0) + int(match[2], 16)
    return sizes


def main() -> None:
    run("tools/build_cpp.sh", "edge")
    build = ROOT / "build" / "edge"
    program, plugin = build / "engine_watch", build / "insn_count.so"
    run("aarch64-linux-gnu-g++", "-std=c++17", "-Os", "-Wall", "-Wextra", "-Werror", "-static", "-Iinclude",
        EXAMPLE / "edge.cc", build / "libfusedcell.a", "-pthread", "-s", "-o", program,
        "-Wl,--gc-sections", f"-Wl,-Map={build / 'map'}")  # fmt: skip
    run("tools/aarch64/build_plugin.sh", plugin)
    sizes = sizes_in((build / "map").read_text(), "libfusedcell.a")
    tables = sum(sizes.get(name, 0) for name in ("rodata", "eh_frame", "gcc_except_table", "data", "init_array"))
    print(f"code of the library: {sizes['text']} bytes, and {tables} of constants and unwinding tables")
    print(f"the program, with the C and C++ libraries in it: {program.stat().st_size} bytes")

    weights = Weights.load()
    engine = fleet(1, seed=3)[0]
    model = weights.model("int8")
    expected = model(engine.sensors)[:, 0]

    with TemporaryDirectory() as name:
        folder = Path(name)
        fc.save(model, folder / "model")
        engine.sensors.astype("<f4").tofile(folder / "sensors")
        print(f"the model's file: {(folder / 'model').stat().st_size} bytes")

        def emulate(isa: str, model: str, rounds: int) -> subprocess.CompletedProcess[str]:
            files = [folder / part for part in (model, "sensors", "answer")]
            counter = f"{plugin},out={folder / 'count'}"
            command: list[str | Path] = [
                "qemu-aarch64",
                "-cpu",
                TIERS[isa],
                "-plugin",
                counter,
                program,
                *files,
                str(rounds),
            ]
            return run(*command, check=False, isa=isa)

        for isa, cpu in TIERS.items():
            counts = []
            for rounds in ROUNDS:
                done = emulate(isa, "model", rounds)
                if done.returncode != 0 or f"isa {isa}\n" not in done.stdout:
                    raise SystemExit(f"{cpu}: exit status {done.returncode}, {done.stdout}{done.stderr}")
                counts.append(int((folder / "count").read_text()))
                if rounds == 1:
                    off = float(np.max(np.abs(np.fromfile(folder / "answer", "<f4") - expected)))
                    if off > 1e-6:
                        raise SystemExit(f"{cpu}: probabilities are off by {off}")
                    memory = ", ".join(done.stdout.splitlines()[1:])
            each = (counts[1] - counts[0]) / (ROUNDS[1] - ROUNDS[0]) / len(engine.sensors)
            print(f"{cpu}, {isa}: {each:.0f} instructions a prediction; {memory}; as in Python to {off:.0e}")

        lstm = {name: np.zeros((4 * 8, 8) if name.startswith("weight") else 4 * 8, np.float32)
                for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")}  # fmt: skip
        left_out = {
            "cells of kind lstm": fc.Model([("lstm", fc.LSTM.from_state_dict(lstm, dtype="int8"), "x")]),
            "float32 weights": weights.model("float32"),
            "nodes of type softmax": fc.Model([("softmax", fc.nodes.Softmax(), "x")], inputs={"x": 8}),
            "the activation Relu": fc.Model([("dense", fc.Dense(np.eye(8), activation="relu"), "x")]).astype("int8"),
        }
        for what, other in left_out.items():
            fc.save(other, folder / "other")
            done = emulate("neon", "other", 1)
            if done.returncode != 1 or f"this build of fusedcell leaves out {what}" not in done.stderr:
                raise SystemExit(f"{what}: expected a refusal, got status {done.returncode}: {done.stderr}")
        print(f"refused, as they should be: {', '.join(left_out)}")

    if sizes["text"] > MOST_CODE:
        raise SystemExit(f"the library's code is to stay below {MOST_CODE} bytes")


if __name__ == "__main__":
    main()
