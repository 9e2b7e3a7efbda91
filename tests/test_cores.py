"""Kinds of cores: what this machine says of its own. tests/cpp/test_cores.cc has what files say of others."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

import fusedcell as fc
from cores import BIG_LITTLE
from fusedcell import _core

pytestmark = pytest.mark.core

pinning = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")


def in_new_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_every_cpu_is_of_one_kind() -> None:
    kinds = _core.core_kinds()
    assert all(set(kind) == set(BIG_LITTLE[0]) for kind in kinds)
    numbers = [number for kind in kinds for number in kind["numbers"]]
    assert len(numbers) == len(set(numbers))
    if numbers:
        assert [kind["cpus"] for kind in kinds] == [len(kind["numbers"]) for kind in kinds]
    assert sum(kind["cpus"] for kind in kinds) >= _core.available_cpus()


@pinning
def test_the_kinds_are_those_of_the_affinity_mask() -> None:
    cpu = max(os.sched_getaffinity(0))
    pinned = f"import os; os.sched_setaffinity(0, [{cpu}]); from fusedcell import _core; "
    assert in_new_interpreter(pinned + "print([kind['numbers'] for kind in _core.core_kinds()])") == str([[cpu]])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_of_fork_knows_the_kinds_too() -> None:
    code = """
import os
from fusedcell import _core
before = _core.core_kinds()
child = os.fork()
if child == 0:
    os._exit(0 if _core.core_kinds() == before else 1)
print(os.waitpid(child, 0)[1])
"""
    assert in_new_interpreter(code) == "0"


def test_the_runtime_shows_the_kinds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fc.show_runtime()
    assert all(kind["name"] in capsys.readouterr().out for kind in _core.core_kinds()[:1])
    monkeypatch.setattr("fusedcell._core.core_kinds", lambda: BIG_LITTLE)
    assert fc.runtime_info()["cores"] == ["4 x Cortex-A55 (in order)", "4 x Cortex-A76"]
    fc.show_runtime()
    assert "cores          4 x Cortex-A55 (in order), 4 x Cortex-A76\n" in capsys.readouterr().out


@pytest.mark.skipif(platform.machine() != "aarch64", reason="reads a register of AArch64")
@pytest.mark.parametrize(
    ("cpu", "shown"),
    [("cortex-a53", "Cortex-A53 (in order)"), ("cortex-a76", "Cortex-A76"), ("neoverse-n1", "Neoverse-N1")],
)
def test_an_emulated_cpu_says_what_it_is(cpu: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's /sys and /proc tell nothing of it."""
    if "QEMU_CPU" not in os.environ:
        pytest.skip("not emulated")
    monkeypatch.setenv("QEMU_CPU", cpu)
    found = in_new_interpreter("import fusedcell; print(fusedcell.runtime_info()['cores'])")
    assert found == str([f"{sum(kind['cpus'] for kind in _core.core_kinds())} x {shown}"])
