"""What `fusedcell bench` compares has the same answer, in every form it may choose, or is not timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fusedcell.bench.cases import GATES, RING, Case
from fusedcell.bench.peers import REQUIRED, Forms, NumPy, Peer, load_peer
from fusedcell.bench.run import measure_case, wrong_answer
from fusedcell.bench.tiers import Tier
from fusedcell.bench.timing import Effort, Runner

ONE_ROUND = Effort(turn_ns=1, seconds=0, min_rounds=1, max_rounds=1)

# Room for float32, for another order of summation, and for another form of the activations.
TOLERANCE = 2e-6


@pytest.fixture(params=["numpy", *REQUIRED])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    for module in REQUIRED.get(request.param, ()):
        pytest.importorskip(module)
    adapter = NumPy() if request.param == "numpy" else load_peer(request.param)
    with adapter.context():
        yield adapter


# At 300 an array of one row is past the size up to which NumPy keeps freed memory as it was.
@pytest.mark.parametrize("size", [8, 17, 300])
@pytest.mark.parametrize("cell", GATES)
def test_peers_agree_with_the_specification(peer: Peer, cell: str, size: int) -> None:
    if cell not in peer.cells:
        pytest.skip(f"{peer.name} has no {cell}")
    case = Case(cell, size, 7)
    for form, make in peer.step_forms(case).items():
        runner = make()
        answer = np.stack([runner.next() for _ in case.expected_steps])
        np.testing.assert_allclose(answer, case.expected_steps, rtol=0, atol=TOLERANCE, err_msg=form)
        fresh = make()
        np.testing.assert_array_equal(fresh.next(), answer[0], err_msg=f"{form}: state is not the runner's own")
    for form, make in peer.sequence_forms(case).items():
        runner = make()
        answer = np.concatenate([runner.next(), runner.next()])[: len(case.expected_sequences)]
        np.testing.assert_allclose(answer, case.expected_sequences, rtol=0, atol=TOLERANCE, err_msg=form)


def test_peers_say_their_version(peer: Peer) -> None:
    assert peer.version[0].isdigit()


@pytest.mark.parametrize("cell", GATES)
def test_cases_are_the_same_every_time_and_differ_from_step_to_step(cell: str) -> None:
    case, again = Case(cell, 5, 30), Case(cell, 5, 30)
    assert case.weights.keys() == again.weights.keys()
    for name, array in case.weights.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, again.weights[name])
        assert abs(array).max() <= np.float32(5**-0.5)
    assert case.weights["weight_hh_l0"].shape == (GATES[cell] * 5, 5)
    assert len(np.unique(case.inputs, axis=0)) == 30
    assert np.array_equal(case.rows, case.inputs[:RING])
    np.testing.assert_array_equal(case.expected_steps, case.expected_sequences[:5])
    assert not np.allclose(case.expected_sequences[30:], case.expected_sequences[:5])


@pytest.mark.parametrize(
    ("answers", "failure"),
    [
        ([[1, 2], [3, 4]], None),
        ([[1, 2], [3, 4.01]], "wrong answer: off by 0.01"),
        ([[1, 2], [3, np.nan]], "wrong answer: off by nan"),
        ([[1, 2, 0], [3, 4, 0]], "wrong answer: shape (3,) of a step, not (2,)"),
        ([[[1, 2], [3, 4], [5, 6]]], None),
    ],
)
def test_answers_are_checked(answers: list[Any], failure: str | None) -> None:
    runner = Runner(lambda answer: answer, [(answer,) for answer in answers], np.array)
    assert wrong_answer(runner, np.array([[1.0, 2.0], [3.0, 4.0]]), 1e-3) == failure


class FakePeer(Peer):
    name = "fake"
    cells = frozenset({"lstm"})

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer

    def step_forms(self, case: Case) -> Forms:
        return {"only": lambda: Runner(lambda row: self.answer(), [(row,) for row in case.rows], np.array)}

    def sequence_forms(self, case: Case) -> Forms:
        raise NotImplementedError


def test_what_fails_or_is_wrong_is_not_timed_but_named() -> None:
    def fail() -> None:
        raise RuntimeError("no\n such kernel")

    tiers = [Tier("scalar")]
    wrong, failing = FakePeer(lambda: np.full(4, 9.0)), FakePeer(fail)
    failing.name = "failing"  # type: ignore[misc]  # the class fixes its name, and this one needs another
    result = measure_case(Case("lstm", 4, 6), "step", tiers, [wrong, failing], ONE_ROUND)
    assert set(result.times) == {"scalar"}
    assert result.ratios == {}
    assert result.best_other is None
    assert result.failures["failing"] == "failed: RuntimeError: no such kernel"
    assert result.failures["fake"].startswith("wrong answer: off by ")

    other_cell = measure_case(Case("gru", 4, 6), "step", tiers, [wrong], ONE_ROUND)
    assert set(other_cell.times) == {"scalar"}
    assert other_cell.failures == {}
