"""What tools/aarch64/mca.py cuts out of a disassembly, and what it reads in llvm-mca's report."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parent.parent / "tools" / "aarch64" / "mca.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mca", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mca"] = module  # where the classes look for their annotations
    spec.loader.exec_module(module)
    return module


tool = load()

# A loop over k (1c to 24) within another (18 to 28), and gates whose call and short cut are not a whole panel's.
DISASSEMBLY = """
neon.cc.o:     file format elf64-littleaarch64

0000000000000010 <void fusedcell::neon::(anonymous namespace)::Tile<fusedcell::neon::Lstm, 1, 4>(long)>:
  10:	mov	x9, #0x0                   	// #0
  14:	cbz	x1, 2c <void fusedcell::neon::(anonymous namespace)::Tile<Lstm, 1, 4>(long)+0x1c>
  18:	add	x9, x9, #0x1
  1c:	ldp	q16, q17, [x0], #32
  20:	fmla	v0.4s, v16.4s, v18.s[0]
  24:	b.ne	1c <void fusedcell::neon::(anonymous namespace)::Tile<Lstm, 1, 4>(long)+0xc>  // b.any
  28:	b.ne	18 <void fusedcell::neon::(anonymous namespace)::Tile<Lstm, 1, 4>(long)+0x8>  // b.any
  2c:	ret

0000000000000030 <void fusedcell::neon::(anonymous namespace)::FinishApart<fusedcell::neon::Lstm>(long)>:
  30:	cbz	x1, 48 <void fusedcell::neon::(anonymous namespace)::FinishApart<Lstm>(long)+0x18>
  34:	fdiv	v0.4s, v1.4s, v2.4s
  38:	cbz	x2, 44 <void fusedcell::neon::(anonymous namespace)::FinishApart<Lstm>(long)+0x14>
  3c:	mov	x0, x3
  40:	bl	80 <memcpy>
  44:	fdiv	v0.4s, v0.4s, v2.4s
  48:	subs	x4, x4, #0x1
  4c:	b.ne	30 <void fusedcell::neon::(anonymous namespace)::FinishApart<Lstm>(long)>
  50:	ret
"""


def texts(body: list[tuple[int, str]]) -> list[str]:
    return [text.split()[0] for _, text in body]


def test_functions_are_named_without_namespaces_and_parameters() -> None:
    found = tool.functions(DISASSEMBLY, "neon")
    assert {name: len(body) for name, body in found.items()} == {"Tile<Lstm, 1, 4>": 8, "FinishApart<Lstm>": 9}


def test_the_loop_over_k_is_the_innermost() -> None:
    body = tool.functions(DISASSEMBLY, "neon")["Tile<Lstm, 1, 4>"]
    assert [texts(loop) for loop in tool.loops(body)] == [
        ["add", "ldp", "fmla", "b.ne", "b.ne"],
        ["ldp", "fmla", "b.ne"],
    ]
    assert texts(tool.multiply_loop(body, "fmla")) == ["ldp", "fmla", "b.ne"]


def test_the_way_through_the_gates_has_the_divisions_asked_for_and_makes_no_call() -> None:
    body = tool.functions(DISASSEMBLY, "neon")["FinishApart<Lstm>"]
    assert texts(tool.gates_path(body, 2)) == ["cbz", "fdiv", "cbz", "fdiv", "subs", "b.ne"]


def test_branches_of_what_llvm_mca_reads_have_a_label() -> None:
    loop = tool.multiply_loop(tool.functions(DISASSEMBLY, "neon")["Tile<Lstm, 1, 4>"], "fmla")
    assert tool.assembly(loop).splitlines() == [
        ".Lhead:",
        "ldp	q16, q17, [x0], #32",
        "fmla	v0.4s, v16.4s, v18.s[0]",
        "b.ne .Lhead",
    ]


def test_cycles_are_those_of_an_iteration() -> None:
    report = "Iterations:        100\nTotal Cycles:      3310\nDispatch Width:    8\nBlock RThroughput: 32.0\n"
    assert tool.parse(report) == (33.1, 32.0)


def test_a_report_without_cycles_is_refused() -> None:
    with pytest.raises(SystemExit, match="printed no cycles"):
        tool.parse("error: no")
