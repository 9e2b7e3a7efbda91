"""Whatever a model's node can be or do has a name by which a build of the C++ library keeps or leaves it out.

`make edge` builds such a library, and holds it to Python's answers and to refusing what it left out.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fusedcell as fc
from fusedcell import _core
from test_model_files import load_changed, set_option

ROOT = Path(__file__).resolve().parents[1]
KERNELS = re.findall(
    r"FUSEDCELL_ROW_KERNEL\((\w+), .*, (keeps_node.*)\)$",
    (ROOT / "csrc/kernels/kernels.inc").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)


def names_of(variable: str) -> list[str]:
    parts = (ROOT / "cmake/parts.cmake").read_text(encoding="utf-8")
    found = re.search(rf"fusedcell_keep_listed\({variable}\s+([^)]*)\)", parts)
    assert found is not None
    return found[1].split()


def test_a_build_can_name_every_type_of_node(tmp_path: Path) -> None:
    with pytest.raises(fc.UnsupportedError, match="supported: ") as refusal:
        load_changed(tmp_path / "model", set_option("conv", type="other"))
    assert names_of("FUSEDCELL_NODES") == str(refusal.value).partition("supported: ")[2].split(", ")


def test_a_build_can_name_every_activation() -> None:
    assert names_of("FUSEDCELL_ACTIVATIONS") == list(_core.node_activations())


def test_a_kernel_stays_with_every_type_of_node_that_needs_it() -> None:
    loader = (ROOT / "csrc/load/load_model.cc").read_text(encoding="utf-8")
    needed: dict[str, set[str]] = {}
    for node, kernel in re.findall(r'\{"(\w+)", &L::\w+, &T::(\w+),', loader):
        needed.setdefault(kernel, set()).add(node)
    assert {kernel: set(re.findall(r'keeps_node\("(\w+)"\)', condition)) for kernel, condition in KERNELS} == needed
