from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

import fusedcell as fc
from fusedcell import _core
from fusedcell._dtypes import QUANTISED

# A shell's background job begins with SIGINT ignored, and so would what tests start, which then never sees a Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every run and every machine, and no time limit: emulated CPUs run these tests too.
settings.register_profile(
    "fusedcell", derandomize=True, deadline=None, database=None, phases=set(Phase) - {Phase.target}
)
# tools/aarch64/test.sh: fewer, of what every other run draws in full.
settings.register_profile("emulated", settings.get_profile("fusedcell"), max_examples=10)
# `make test-thorough`: many more, and others on each run, with a line to paste for one that fails.
settings.register_profile("thorough", max_examples=2000, deadline=None, database=None, print_blob=True)
settings.load_profile("fusedcell")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--objects", type=Path, metavar="DIR", help="build folder whose per-tier object files are to be checked"
    )
    parser.addoption(
        "--cpp-tests", type=Path, metavar="DIR", help="folder of the C++ tests' programs, for what is run through them"
    )
    parser.addoption(
        "--tiers",
        type=lambda names: names.split(","),
        default=fc.isas(),
        metavar="NAME[,NAME...]",
        help="run what is tested on each tier on these only, and everything else as ever",
    )
    parser.addoption(
        "--tier-tests",
        action="store_true",
        help="run nothing but what is tested on each tier, and the choice of one",
    )
    parser.addoption(
        "--combinations",
        choices=("all", "some", "pairs", "tiers"),
        default="all",
        help="of a test's combinations of parameters, run all, or enough that every two values of two parameters meet "
        "(pairs), or of tests marked `all_combinations` all and of others pairs (some), or enough that every value "
        "meets every tier (tiers)",
    )

    parser.addoption(
        "--bits-alone",
        type=lambda names: names.split(","),
        default=[],
        metavar="NAME[,NAME...]",
        help="of what is tested on each tier, run on these only what is marked `of_bits`, and the choice of a tier",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "isa" in metafunc.fixturenames:  # each tier that this machine runs
        metafunc.parametrize("isa", metafunc.config.option.tiers)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    tiers = config.option.tiers
    if missing := set(tiers) - set(fc.isas()):
        raise pytest.UsageError(f"--tiers: expected some of {', '.join(fc.isas())}, got {', '.join(sorted(missing))}")

    def is_left_out(item: pytest.Function) -> bool:
        if item.get_closest_marker("exhaustive") and "exhaustive" not in config.option.markexpr:
            return True
        if "isa" in item.fixturenames:
            is_of_bits = item.get_closest_marker("of_bits") is not None or item.path.name == "test_isa.py"
            if item.callspec.params["isa"] in config.option.bits_alone and not is_of_bits:
                return True
            # Those have the kernels of the tier below for all but int8.
            return item.callspec.params["isa"] in _core.int8_isas() and is_of_floats(item)
        return config.option.tier_tests and item.path.name != "test_isa.py"

    left_out = {item for item in items if is_left_out(item)}
    if (combinations := config.option.combinations) != "all":
        is_whole = combinations == "some"
        candidates = (
            item
            for item in items
            if item not in left_out and not (is_whole and item.get_closest_marker("all_combinations"))
        )
        left_out |= without_new_pairs(candidates, with_tiers=combinations == "tiers")
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def is_of_floats(item: pytest.Function) -> bool:
    """Whether it has no weights in int8, by its parameter `dtype` or else by its mark."""
    dtype = item.callspec.params.get("dtype")
    return item.get_closest_marker("float_weights") is not None if dtype is None else dtype not in QUANTISED


def without_new_pairs(items: Iterable[pytest.Function], *, with_tiers: bool = False) -> set[pytest.Function]:
    """The items of which earlier ones of the same test have every two parameters' values together.

    With `with_tiers` that is asked of a tier and another value alone.
    """
    seen: dict[str, set[Any]] = {}
    found: set[pytest.Function] = set()
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is None:
            continue
        values = sorted((name, id(value)) for name, value in callspec.params.items())  # combinations share objects
        pairs = set(combinations_with_replacement(values, 2))
        if with_tiers:
            pairs = {(one, other) for one, other in pairs if one == other or "isa" in (one[0], other[0])}
        known = seen.setdefault(item.nodeid.partition("[")[0], set())
        if pairs <= known:
            found.add(item)
        known |= pairs
    return found


def pytest_report_header() -> str:
    info = fc.runtime_info()
    return f"fusedcell {info['fusedcell']} on {info['cpu']}: tiers {', '.join(info['isas'])}"


@pytest.fixture(autouse=True, scope="session")
def _no_loss_of_power() -> Iterator[None]:
    """What is saved is not waited for until it is on the disk, which takes longer than all else in a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: None)
        yield


@pytest.fixture
def inference_mode() -> Iterator[None]:
    """The test runs in PyTorch's inference mode."""
    with pytest.importorskip("torch").inference_mode():
        yield


@pytest.fixture
def tagger() -> Any:
    """A trained model of PyTorch with nested and shared recurrent modules."""
    from torch_models import torch, trained_tagger

    with torch.inference_mode(False):  # so that its parameters are ordinary tensors
        return trained_tagger()
