"""Tiers: the request, then FUSEDCELL_ISA, then the best; what is forced really runs, and what cannot run raises."""

from __future__ import annotations

import platform
import sys
from typing import Any

import pytest

import fusedcell as fc
from fusedcell import _core
from fusedcell._dtypes import DTYPES
from models import KIND, KINDS, Kind

pytestmark = pytest.mark.core

MAPPING = KIND["lstm"].weights(2, 3)


def make(isa: str | None = None) -> str:
    return fc.LSTM.from_state_dict(MAPPING, isa=isa).isa


def test_tiers_are_listed_best_first_and_end_with_scalar() -> None:
    assert fc.isas() == [tier for tier in _core.compiled_isas() if tier in fc.isas()]
    assert fc.isas()[-1] == "scalar"
    arm = ["i8mm", "dotprod", "dotprod_ld64", "neon", "neon_ld64", "scalar"]
    expected = {"x86_64": ["avx512vnni", "avx512", "avxvnni", "avx2", "scalar"], "aarch64": arm, "arm64": arm}
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if machine != "x86_64" and sys.maxsize < 2**32:  # also on a 64-bit kernel, which says aarch64
        assert _core.compiled_isas() == ["vfpv4", "scalar"]
    else:
        assert _core.compiled_isas() == expected.get(machine)


def test_tiers_that_differ_in_int8_alone_are_listed() -> None:
    alike = set(_core.int8_isas())
    assert alike == {"avx512vnni", "avxvnni", "dotprod", "dotprod_ld64", "i8mm"} & set(_core.compiled_isas())


def test_a_tier_is_available_exactly_if_the_cpu_has_its_features() -> None:
    avx512, avx2 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}, {"avx2", "fma", "f16c"}
    needs = {"avx512": avx512, "avx512vnni": avx512 | {"avx512vnni"}, "avx2": avx2, "avxvnni": avx2 | {"avxvnni"}}
    needs |= {"dotprod": {"dotprod"}, "dotprod_ld64": {"dotprod"}, "i8mm": {"dotprod", "i8mm"}}
    needs |= {"vfpv4": {"neon", "vfpv4"}}
    features = set(_core.cpu_features())
    for tier in _core.compiled_isas():
        assert (tier in fc.isas()) == (needs.get(tier, set()) <= features)


def test_detection_agrees_with_the_operating_system() -> None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            text = file.read()
    except OSError:
        pytest.skip("no /proc/cpuinfo here")
    names = {"flags": {"avx_vnni": "avxvnni", "avx512_vnni": "avx512vnni"}, "Features": {"asimddp": "dotprod"}}
    for heading, renamed in names.items():
        listed = [line.partition(":")[2].split() for line in text.splitlines() if line.startswith(heading)]
        if listed and platform.machine() in ("x86_64", "aarch64"):
            if (heading == "flags") != (platform.machine() == "x86_64"):
                continue  # an emulated CPU shows the host's file
            flags = {renamed.get(flag, flag) for flag in listed[0]}
            known = {"avx2", "fma", "f16c", "avxvnni", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"}
            known |= {"dotprod", "i8mm"}
            assert set(_core.cpu_features()) == flags & known


def test_the_best_tier_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUSEDCELL_ISA", raising=False)
    assert make() == fc.isas()[0]
    monkeypatch.setenv("FUSEDCELL_ISA", "")
    assert make() == fc.isas()[0]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_forced_tier_runs(kind: Kind, isa: str) -> None:
    mapping = kind.weights(2, 3)
    assert kind.make(mapping, isa=isa).isa == isa
    assert kind.make_cell(mapping, isa=isa).isa == isa


def test_the_environment_forces_a_tier_and_the_request_comes_before_it(
    monkeypatch: pytest.MonkeyPatch, isa: str
) -> None:
    monkeypatch.setenv("FUSEDCELL_ISA", isa)
    assert make() == isa
    assert fc.runtime_info()["isa"] == isa
    assert make("scalar") == "scalar"


def test_an_unknown_tier_raises_and_lists_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ", ".join(fc.isas())
    with pytest.raises(ValueError, match=f"isa: there is no tier 'avx9'; this machine runs: {listed}"):
        make("avx9")
    monkeypatch.setenv("FUSEDCELL_ISA", "AVX2")
    with pytest.raises(ValueError, match=f"FUSEDCELL_ISA: there is no tier 'AVX2'; this machine runs: {listed}"):
        make()
    with pytest.raises(TypeError, match="isa: expected a string or None, got int"):
        fc.LSTM.from_state_dict(MAPPING, isa=3)  # type: ignore[arg-type]    # that is the point


def test_a_tier_of_this_build_that_the_cpu_lacks_raises() -> None:
    missing = [tier for tier in _core.compiled_isas() if tier not in fc.isas()]
    if not missing:
        pytest.skip("this CPU runs every tier of this build")
    with pytest.raises(ValueError, match=f"isa: this CPU cannot run '{missing[0]}'"):
        make(missing[0])


def test_every_tier_has_every_kernel_and_they_are_listed() -> None:
    listed = _core.kernels()
    assert len(listed) == len(set(listed))
    for kind in KINDS:
        assert any(name.startswith(kind.name.removesuffix("_projected")) for name in listed), kind.name


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_tier_multiplies_at_some_rate(isa: str, dtype: str) -> None:
    assert f"multiply_{dtype}" in _core.kernels()
    seconds = _core.multiply_seconds(1 << 16, 2, dtype, isa)
    assert 0 < seconds < float("inf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1), "multiply_adds: expected at least 1, got 0"),
        ((1, 0), "repeats: expected at least 1, got 0"),
        ((1, 1, "int4"), "dtype: there is no weight type 'int4'"),
        ((1, 1, "int8", "avx9"), "isa: there is no tier 'avx9'"),
    ],
)
def test_a_rate_of_nothing_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.multiply_seconds(*arguments)


def test_the_package_and_the_module_know_the_same_weight_types() -> None:
    assert list(DTYPES) == _core.weight_types()


def test_show_runtime_prints_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    fc.show_runtime()
    printed = capsys.readouterr().out
    for part in (fc.__version__, fc.isas()[0], "cpu_features", "caches", "compiler"):
        assert part in printed
