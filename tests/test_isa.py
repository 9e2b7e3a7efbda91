"""Tiers: the request, then FUSEDCELL_ISA, then the best; what is forced really runs, and what cannot run raises."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path
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


def text(path: str) -> str:
    return (Path(__file__).parents[1] / path).read_text(encoding="utf-8")


def listed_tiers() -> list[str]:
    return re.findall(r"^FUSEDCELL_(?:TIER|OVERLAY)\((\w+), ", text("csrc/kernels/tiers.inc"), re.MULTILINE)


def required_features() -> dict[str, set[str]]:
    """Of each tier, by the list of the code."""
    line = r"^FUSEDCELL_(?:TIER|OVERLAY)\((\w+),(?: \w+,)? ([\w |]+)\)$"
    lines = re.findall(line, text("csrc/kernels/tiers.inc"), re.MULTILINE)
    return {tier: {name[1:].lower() for name in found.split(" | ") if name != "0"} for tier, found in lines}


def architecture() -> int:
    """The place of this Python's among those of cmake/tiers.cmake; a 64-bit kernel says aarch64 to a 32-bit one."""
    machine = platform.machine().lower()
    return 1 if machine in ("x86_64", "amd64") else 2 if sys.maxsize > 2**32 else 3


def flags_of_tiers() -> dict[str, list[str]]:
    """What CMake compiles each of this architecture's tiers with, and any compiler but Microsoft's."""
    whole = text("cmake/tiers.cmake")
    given = whole.partition("\nif(fusedcell_processor MATCHES")[2].partition("\nelse()\n  message")
    own = f"{re.split('^elseif', given[0], flags=re.MULTILINE)[architecture() - 1]}\n{given[2]}"
    variables = dict(re.findall(r"^ +set\((\w+_flags) (.*)\)$", whole, re.MULTILINE))
    added = re.findall(r"^ *fusedcell_add_tier\((\w+)(?: BASE [\w ]+?)?(?: FLAGS ([^/\n]*))?\)$", own, re.MULTILINE)
    return {tier: re.sub(r"\$\{(\w+)\}", lambda name: variables[name[1]], flags).split() for tier, flags in added}


def features_in(flags: list[str]) -> set[str]:
    found: set[str] = set()
    for name, _, value in (flag.partition("=") for flag in flags):
        named = {"-march": value.split("+")[1:], "-mfpu": value.split("-")}.get(name, [name.removeprefix("-m")])
        found.update(feature.replace(".", "") for feature in named)
    return found


def test_tiers_are_listed_best_first_and_end_with_scalar() -> None:
    assert fc.isas() == [tier for tier in _core.compiled_isas() if tier in fc.isas()]
    assert fc.isas()[-1] == "scalar"


def test_every_tier_that_is_compiled_is_in_the_list_of_the_code_and_the_other_way_round() -> None:
    compiled = flags_of_tiers()
    assert len(compiled) >= 2
    assert _core.compiled_isas() == [tier for tier in listed_tiers() if tier in compiled]


def test_a_tier_requires_the_features_that_it_is_compiled_for() -> None:
    required = required_features()
    for tier, flags in flags_of_tiers().items():
        assert required[tier] == features_in(flags), tier


def test_tiers_that_differ_in_int8_alone_are_listed() -> None:
    """They have a file of kernels, as every tier, that names no type of floats."""
    bases = re.findall(r"^FUSEDCELL_TIER\((\w+)", text("csrc/kernels/tiers.inc"), re.MULTILINE)
    overlays = [tier for tier in _core.compiled_isas() if tier not in bases]
    assert _core.int8_isas() == [tier for tier in overlays if "Float32" not in text(f"csrc/kernels/isa/{tier}.cc")]


def test_a_tier_is_available_exactly_if_the_cpu_has_its_features() -> None:
    features, required = set(_core.cpu_features()), required_features()
    for tier in _core.compiled_isas():
        assert (tier in fc.isas()) == (required[tier] <= features)


def test_detection_agrees_with_the_operating_system() -> None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            shown = file.read()
    except OSError:
        pytest.skip("no /proc/cpuinfo here")
    known = re.findall(r"^FUSEDCELL_(\w+)_FEATURE\(\w+, (\w+)", text("csrc/cpu/features.inc"), re.MULTILINE)
    for heading, machine, family in (("flags", "x86_64", "X86"), ("Features", "aarch64", "ARM64")):
        listed = [line.partition(":")[2].split() for line in shown.splitlines() if line.startswith(heading)]
        if listed and platform.machine() == machine:  # an emulated CPU shows the host's file
            flags = {{"asimddp": "dotprod"}.get(flag, flag.replace("_", "")) for flag in listed[0]}
            assert set(_core.cpu_features()) == flags & {name for of_family, name in known if of_family == family}


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


@pytest.mark.parametrize("units", [1, 17])
def test_every_tier_has_gates_that_can_be_timed(isa: str, units: int) -> None:
    for kernel in ("summed_lstm", "summed_gru_reset_before_gates", "summed_gru_reset_before_candidate", "general_rnn"):
        assert kernel in _core.kernels()
        assert 0 < _core.gate_seconds(kernel, units, 2, isa) < float("inf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lstm", 1, 1), "kernel: there is no gate kernel 'lstm'"),
        (("summed_lstm", 0, 1), "units: expected at least 1, got 0"),
        (("summed_lstm", 1, 0), "repeats: expected at least 1, got 0"),
    ],
)
def test_gates_of_nothing_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.gate_seconds(*arguments)


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
