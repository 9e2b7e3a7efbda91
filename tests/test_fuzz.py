"""What fuzzing starts from, what it once found, and some drawn inputs: each is answered or refused as documented."""

from __future__ import annotations

from importlib.util import find_spec
from random import Random

import numpy as np
import pytest

from fuzz.source import Source
from fuzz.targets import FOUND, TARGETS, Target

# NumPy advises against it, but somebody may, while an argument is read.
pytestmark = pytest.mark.filterwarnings("ignore:Setting the (dtype|shape) on a NumPy array:DeprecationWarning")

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)


def skip_without_packages(target: Target) -> None:
    for needed in target.needs:
        if find_spec(needed) is None:
            pytest.skip(f"needs the package {needed}")


@every_target
def test_seeds_and_what_was_found_are_answered_or_refused(target: Target) -> None:
    skip_without_packages(target)
    seeds = list(target.seeds())
    for data in (*(seeds[::5] if target.is_slow else seeds), *target.found()):
        target.run(data)


@every_target
def test_changed_files_and_drawn_arguments_are_answered_or_refused(target: Target) -> None:
    skip_without_packages(target)
    seeds = list(target.seeds())
    random = Random(target.name)
    for _ in range(5 if target.is_slow else 15 * target.share):
        data = random.choice(seeds)
        for _ in range(random.randint(1, 3)):
            data = target.mutate(data, random)
        target.run(data)


def test_what_was_found_belongs_to_a_target() -> None:
    assert {path.name for path in FOUND.iterdir()} <= set(TARGETS)


def test_bytes_that_are_at_an_end_draw_the_plainest_choice() -> None:
    source = Source(b"\5")
    assert (source.choice("abcdefg"), source.is_empty) == ("f", True)
    assert (source.choice("abc"), source.chance(2), source.below(9)) == ("a", False, 0)


@pytest.mark.parametrize("name", ["load", "onnx", "keras", "state_dict_pytorch"])
def test_changed_files_are_still_read_to_some_depth(name: str) -> None:
    """A fuzzer whose every file is refused at the first byte would find nothing."""
    target = TARGETS[name]
    skip_without_packages(target)
    random = Random(7)
    seeds = list(target.seeds())
    changed = [target.mutate(random.choice(seeds), random) for _ in range(50)]
    frame = {"load": b"{", "onnx": b"\x08", "keras": b"PK", "state_dict_pytorch": b"PK"}[name]
    assert np.mean([frame in data[:9] for data in changed]) > 0.8
