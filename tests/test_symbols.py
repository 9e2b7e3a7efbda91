"""Code compiled for one tier must not be linked into another.

An inline function that a tier's translation unit emits as a weak symbol can replace the same function everywhere else,
and then a CPU without that tier meets instructions it does not have. So a tier's object file may export its kernel
table and nothing else.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fusedcell import _core


def test_tier_objects_export_their_kernel_table_and_nothing_else(request: pytest.FixtureRequest) -> None:
    folder: Path | None = request.config.getoption("--objects")
    if folder is None:
        pytest.skip("pass the build folder with --objects")
    nm = shutil.which("nm")
    assert nm is not None, "nm is part of binutils"
    for tier in _core.compiled_isas():
        objects = [*folder.rglob(f"{tier}.cc.o"), *folder.rglob(f"{tier}.cc.obj")]
        assert objects, f"no object file of {tier} in {folder}"
        for path in objects:
            lines = subprocess.run(
                [nm, "--demangle", "--defined-only", "--extern-only", path], text=True, check=True, capture_output=True
            ).stdout.splitlines()
            symbols = [line.split(maxsplit=2)[1:] for line in lines]
            tables = [f"fusedcell::{tier}::kernel_table"], [f"fusedcell::{tier}::overlay"]
            assert [name for _, name in symbols] in tables
            assert symbols[0][0] in "DR", "a weak symbol could replace another's"
