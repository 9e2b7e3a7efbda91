"""What counts as a change between repeats: p values by counting assignments by hand, and made-up noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fusedcell.bench.changes import Change, compare_repeats, least_p, repeats_needed

# Logarithms of what one repeat may be off the others: within 2 %.
NOISE = (0.000, 0.013, -0.017, 0.008, -0.004, 0.019)


def noisy(us: float, shift: int = 0, count: int = 6) -> list[float]:
    """`count` repeats, in another order for each `shift`."""
    return [us * float(np.exp(NOISE[(5 * i + shift) % 6])) for i in range(count)]


def verdicts(old: dict[str, list[float]], new: dict[str, list[float]]) -> dict[str, str]:
    return {name: change.verdict for name, change in compare_repeats(old, new).by_case.items()}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (Change(1.10, 0.01, 0.05), "slower"),
        (Change(0.90, 0.05, 0.05), "faster"),
        (Change(1.10, 0.051, 0.20), "no difference"),
        (Change(0.90, 0.051, 0.20), "no difference"),
        (Change(1.04, 0.01, 0.05), "no difference"),
        (Change(0.96, 0.01, 0.05), "no difference"),
        (Change(1.10, 0.01, 0.05, 0.11), "no difference"),
        (Change(0.91, 0.01, 0.05, 0.11), "no difference"),
        (Change(1.10, 0.01, 0.05, 0.09), "slower"),
        (Change(2.00), "cannot tell"),
    ],
)
def test_verdicts(change: Change, verdict: str) -> None:
    assert change.verdict == verdict


def test_what_would_be_found_is_not_less_than_what_counts() -> None:
    changes = [Change(1.0, 0.5, 0.2), Change(1.0, 0.5, 0.01), Change(1.0, 0.5, 0.2, 0.3), Change(1.0)]
    assert [change.finds for change in changes] == [0.2, 0.05, 0.3, None]


@pytest.mark.parametrize(
    ("old", "new", "p"),
    [(1, 1, 1.0), (1, 50, 1.0), (3, 3, 2 / 20), (4, 4, 2 / 70), (3, 4, 1 / 35), (6, 6, 2 / 924)],
)
def test_the_least_p_is_that_of_the_most_extreme_assignment(old: int, new: int, p: float) -> None:
    assert least_p(old, new) == p
    assert repeats_needed() == 4


def test_one_case_by_hand() -> None:
    """Of 70 assignments only the true one and its mirror image part repeats so clearly, and equal means all."""
    assert compare_repeats({"a": [1.0, 1.1, 1.2, 1.3]}, {"a": [1.3, 1.2, 1.1, 1.0]}).by_case["a"].p == 1.0
    change = compare_repeats({"a": [1.00, 1.01, 1.02, 1.03]}, {"a": [1.20, 1.21, 1.22, 1.23]}).by_case["a"]
    assert change.p == pytest.approx(2 / 70)
    assert change.ratio == pytest.approx(1.215 / 1.015)
    assert change.verdict == "slower"


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "no difference"), (1.1, "slower"), (1 / 1.1, "faster")])
def test_a_tenth_is_reported_and_nothing_else(factor: float, verdict: str) -> None:
    old = {str(i): noisy(10.0 + i, i) for i in range(12)}
    new = {str(i): noisy(10.0 + i, 2 * i + 1) for i in range(12)} | {"3": noisy(13.0 * factor, 2)}
    found = verdicts(old, new)
    assert found.pop("3") == verdict
    assert set(found.values()) == {"no difference"}


@pytest.mark.parametrize("most", [1.1, 1.5, 3.0])
def test_what_shifts_one_repeat_alone_is_not_reported(most: float) -> None:
    """Every case of one process is slower, as if its memory lay badly."""
    old = {str(i): noisy(10.0 + i, i) for i in range(12)}
    new = {str(i): [us * most if r == 2 else us for r, us in enumerate(noisy(10.0 + i, i + 3))] for i in range(12)}
    assert set(verdicts(old, new).values()) == {"no difference"}
    assert set(verdicts(new, old).values()) == {"no difference"}


def test_a_clear_change_does_not_hide_another() -> None:
    old = {str(i): noisy(10.0 + i, i) for i in range(12)}
    new = {str(i): noisy((10.0 + i) * (5.0 if i == 1 else 1.12 if i == 2 else 1.0), i + 2) for i in range(12)}
    assert [name for name, verdict in verdicts(old, new).items() if verdict == "slower"] == ["1", "2"]


@pytest.mark.parametrize(("old", "new"), [(1, 1), (3, 3), (1, 6), (2, 2)])
def test_too_few_repeats_cannot_tell(old: int, new: int) -> None:
    found = compare_repeats({"a": noisy(1.0, count=old)}, {"a": noisy(9.0, count=new)})
    assert not found.enough
    assert found.by_case["a"].verdict == "cannot tell"
    assert (found.by_case["a"].p, found.by_case["a"].detectable) == (None, None)


def test_a_case_that_lacks_a_repeat_is_not_told_and_the_others_are() -> None:
    old = {"a": noisy(1.0), "b": noisy(1.0, count=5)}
    found = compare_repeats(old, {"a": noisy(2.0, 1), "b": noisy(2.0, 1)})
    assert (found.old_repeats, found.new_repeats, found.enough) == (6, 6, True)
    assert [change.verdict for change in found.by_case.values()] == ["slower", "cannot tell"]


def test_repeats_that_agree_to_the_last_digit_are_not_believed_beyond_half_a_percent() -> None:
    """Errors of 0.5 % at least: a difference of 1 % is 2 of them, and one of 20 % is 36."""
    same, slower = {"a": [1.0] * 6}, {"a": [1.2] * 6}
    assert compare_repeats(same, same).by_case["a"].p == 1.0
    assert compare_repeats(same, slower).by_case["a"].p == pytest.approx(2 / 924)


def random_times(rng: np.random.Generator, count: int, spread: float) -> dict[str, list[float]]:
    """Twenty cases; each repeat has a shift of its own for all of them, and one for each."""
    shared = rng.normal(0, 0.03, count)
    return {str(i): [float(us) for us in np.exp(shared + rng.normal(0, spread, count))] for i in range(20)}


@pytest.mark.parametrize("repeats", [(4, 4), (5, 5), (4, 6), (9, 9)])
def test_chance_alone_is_reported_in_one_comparison_of_twenty_at_most(repeats: tuple[int, int]) -> None:
    """Of 60 comparisons of 20 cases each, 3 on average, and 7 or fewer 99 times of 100."""
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(60 if max(repeats) < 9 else 6):
        old, new = (random_times(rng, count, 0.04) for count in repeats)
        wrong += any(change.p is not None and change.p <= 0.05 for change in compare_repeats(old, new).by_case.values())
    assert wrong <= 7


@pytest.mark.parametrize("change", [lambda us: us * 2.0, lambda us: us * 0.5])
def test_what_would_have_been_found_is_found(change: Callable[[float], float]) -> None:
    """A change of twice what the noise allows to find."""
    rng = np.random.default_rng(6)
    old, new = random_times(rng, 6, 0.02), random_times(rng, 6, 0.02)
    quiet = compare_repeats(old, new).by_case["7"]
    assert quiet.detectable is not None
    assert 0.01 < quiet.detectable < 0.3
    assert compare_repeats(old, new | {"7": [change(us) for us in new["7"]]}).by_case["7"].p == pytest.approx(2 / 924)
