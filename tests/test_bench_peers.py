"""What `fusedcell bench` compares has the same answer, in every form it may choose, or is not timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell import _core
from fusedcell._dtypes import DTYPES
from fusedcell._timing import Effort, Runner
from fusedcell.bench.answers import PEER_INT8, Tolerance, our_tolerance, wrong_answer
from fusedcell.bench.cases import GATES, RING, STEPS_TO_CHECK, Case
from fusedcell.bench.peers import REQUIRED, Forms, NumPy, Peer, load_peer, load_peers
from fusedcell.bench.peers.weights import by_matrix, by_row
from fusedcell.bench.studies import measure_case
from fusedcell.bench.tiers import StreamsTier, Tier, float_isas

ONE_ROUND = Effort(turn_ns=1, seconds=0, min_rounds=1, max_rounds=1)

# float32: room for another order of summation, and for another form of the activations. int8: half a step of 8 / 255,
# the coarsest there is, where x and h share one scale and x goes to 4.
TOLERANCES = {"float32": Tolerance(2e-6), "int8": Tolerance(1.5e-2, rms=True)}


@pytest.fixture(params=["numpy", *REQUIRED, *(f"{name} int8" for name in REQUIRED)])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    library, _, dtype = request.param.partition(" ")
    for module in REQUIRED.get(library, ()):
        pytest.importorskip(module)
    adapter = NumPy() if library == "numpy" else load_peer(library, dtype or "float32")
    assert adapter.name == request.param
    assert adapter.dtype == (dtype or "float32")
    with adapter.context():
        yield adapter


# At 300 an array of one row is past the size up to which NumPy keeps freed memory as it was.
@pytest.mark.parametrize("size", [8, 17, 300])
@pytest.mark.parametrize("cell", GATES)
def test_peers_agree_with_the_specification(peer: Peer, cell: str, size: int) -> None:
    if cell not in peer.cells:
        pytest.skip(f"{peer.name} has no {cell}")
    case = Case(cell, size, 7, input_size=5 if size == 17 else 0)
    for form, make in peer.step_forms(case).items():
        runner = make()
        answer = np.stack([runner.next() for _ in case.expected_steps])
        assert TOLERANCES[peer.dtype].error(answer - case.expected_steps) <= TOLERANCES[peer.dtype].limit, form
        fresh = make()
        np.testing.assert_array_equal(fresh.next(), answer[0], err_msg=f"{form}: state is not the runner's own")
    for form, make in peer.sequence_forms(case).items():
        assert wrong_answer(make(), case.expected_sequences, TOLERANCES[peer.dtype]) is None, form


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("cell", GATES)
def test_peers_take_batches(peer: Peer, cell: str, steps: int) -> None:
    case = Case(cell, 17, steps, batch=3, input_size=5)
    if not peer.takes(case):
        pytest.skip(f"{peer.name} has no batches, or no {cell}")
    assert case.expected_sequences.shape == (steps + min(steps, STEPS_TO_CHECK), 3, 17)
    for form, make in peer.sequence_forms(case).items():
        assert wrong_answer(make(), case.expected_sequences, TOLERANCES[peer.dtype]) is None, form


@pytest.mark.parametrize("cell", GATES)
def test_peers_step_many_streams(peer: Peer, cell: str) -> None:
    case = Case(cell, 17, 7, batch=3, input_size=5)
    if not peer.gathers:
        with pytest.raises(fc.UnsupportedError, match=peer.name):
            peer.many_forms(case)
        return
    if not peer.takes(case):
        pytest.skip(f"{peer.name} has no {cell}")
    for form, make in peer.many_forms(case).items():
        assert wrong_answer(make(), case.expected_steps, TOLERANCES[peer.dtype]) is None, form


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
    assert wrong_answer(runner, np.array([[1.0, 2.0], [3.0, 4.0]]), Tolerance(1e-3)) == failure


@pytest.mark.parametrize(
    ("limit", "failure"),
    [(0.51, None), (0.49, "wrong answer: off by 0.5 rms"), (np.nan, "wrong answer: off by 0.5 rms")],
)
def test_errors_of_few_bits_are_averaged(limit: float, failure: str | None) -> None:
    runner = Runner(lambda answer: answer, [(np.array([[1.0, 2.0], [3.0, 5.0]]),)], np.array)
    assert wrong_answer(runner, np.array([[1.0, 2.0], [3.0, 4.0]]), Tolerance(limit, rms=True)) == failure


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", GATES)
def test_our_tiers_agree_with_the_specification(cell: str, dtype: str) -> None:
    case = Case(cell, 33, 7, input_size=20)
    tier = Tier(fc.isas()[0], dtype)
    assert tier.make_layer(case).dtype == dtype
    assert wrong_answer(tier.make_step(case), case.expected_steps, our_tolerance(33, dtype)) is None
    assert wrong_answer(tier.make_sequence(case), case.expected_sequences, our_tolerance(33, dtype)) is None


def test_the_tiers_of_floats_leave_out_what_equals_another() -> None:
    tiers = float_isas()
    assert tiers == [isa for isa in fc.isas() if isa in tiers]
    assert set(fc.isas()) - set(tiers) == set(_core.int8_isas()) & set(fc.isas())
    assert tiers[-1] == "scalar"


def test_weights_are_quantised_as_the_other_libraries_do() -> None:
    weights = np.array([[0.5, -1.0], [0.2, 0.0]], np.float32)
    integers, scales = by_row(weights)
    assert integers.dtype == np.int8
    np.testing.assert_array_equal(integers, [[64, -127], [127, 0]])
    np.testing.assert_allclose(scales, np.array([1.0, 0.2]) / 127, rtol=1e-6)
    integers, scales = by_matrix(weights)
    np.testing.assert_array_equal(integers, [[64, -127], [25, 0]])
    np.testing.assert_allclose(scales, [1 / 127], rtol=1e-6)
    np.testing.assert_array_equal(by_row(weights, largest=64)[0], [[32, -64], [64, 0]])


def test_int8_peers_stand_beside_the_float32_ones() -> None:
    float32, _ = load_peers()
    both, absent = load_peers("int8")
    assert [peer.name for peer in both if peer.dtype == "float32"] == [peer.name for peer in float32]
    assert [peer.name for peer in both if peer.dtype == "int8"] == [f"{peer.name} int8" for peer in float32]
    assert not any("failed" in reason for reason in absent.values())


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
    assert set(result.rounds) == {"fusedcell"}
    assert (result.ratio("fake"), result.best_other()) == (None, None)
    assert result.failures["failing"] == "failed: RuntimeError: no such kernel"
    assert result.failures["fake"].startswith("wrong answer: off by ")

    assert wrong.tolerance == Tolerance(1e-4)
    other_cell = measure_case(Case("gru", 4, 6), "step", tiers, [wrong], ONE_ROUND)
    assert (set(other_cell.rounds), other_cell.failures) == ({"fusedcell"}, {})


class FakeInt8Peer(FakePeer):
    name = "fake int8"
    dtype = "int8"
    tolerance = PEER_INT8


@pytest.mark.parametrize(("error", "failures"), [(0.015, set()), (0.025, {"fake int8"})])
def test_int8_peers_may_be_off_by_what_rounding_to_a_byte_explains(error: float, failures: set[str]) -> None:
    case = Case("lstm", 4, 6)
    answers = cycle(case.expected_steps + error)
    result = measure_case(case, "step", [Tier("scalar", "int8")], [FakeInt8Peer(lambda: next(answers))], ONE_ROUND)
    assert set(result.failures) == failures
    assert result.best_other("int8") == (None if failures else "fake int8")


@pytest.mark.parametrize("kind", ["step", "sequence"])
def test_the_variants_of_a_case_are_timed_side_by_side(kind: Any) -> None:
    own = [Tier("scalar", "int8"), Tier("scalar", name="fusedcell float32")]
    result = measure_case(Case("gru", 4, 6), kind, own, [NumPy()], ONE_ROUND)
    assert result.failures == {}
    assert (result.dtype, result.tier, result.own) == ("int8", "scalar", ["fusedcell", "fusedcell float32"])
    assert result.dtypes == {"fusedcell": "int8", "fusedcell float32": "float32", "numpy": "float32"}
    assert {name: [len(rounds) for rounds in repeats] for name, repeats in result.rounds.items()} == {
        name: [1] for name in result.dtypes
    }
    assert (result.best_other(), result.best_other("int8")) == ("numpy", None)
    assert [phase.phase for phase in result.limit] == (["step"] if kind == "step" else ["projection", "recurrence"])


def test_layers_are_asked_for_threads_only_where_there_are_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, dict[str, int]]] = []
    stream = fc.LSTM.stream

    def record(self: fc.LSTM, batch_size: int = 1, **options: int) -> Any:
        asked.append((batch_size, options))
        return stream(self, batch_size)

    monkeypatch.setattr(fc.LSTM, "stream", record)
    own = [Tier("scalar", name=str(count), threads=count) for count in (1, 2)]
    assert measure_case(Case("lstm", 4, 6, batch=3), "sequence", own, [], ONE_ROUND).failures == {}
    assert asked == [(3, {}), (3, {"num_threads": 2})]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_every_way_to_step_many_streams_has_the_answer_of_the_specification(cell: str, dtype: str) -> None:
    own = [StreamsTier("scalar", dtype, way) for way in StreamsTier.WAYS]
    result = measure_case(Case(cell, 5, 7, batch=3), "streams", own, [], ONE_ROUND)
    assert result.failures == {}
    assert [*result.rounds] == result.own == ["step_many", "step", "pool"]
