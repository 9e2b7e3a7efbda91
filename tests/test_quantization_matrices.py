"""What `compare` says of each matrix: losses worked by hand, the change that mends most, and models by node."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from collapsing import powers, speaker_encoder
from fusedcell.quantization import ModelComparison, compare
from models import EVERY_KIND, Kind, one_unit, uniform


def snr(y: Any, other: Any) -> float:
    y, other = np.asarray(y, np.float64), np.asarray(other, np.float64)
    return float(10 * np.log10((y**2).sum() / ((y - other) ** 2).sum()))


def quiet(network: Any, dtype: Any = "int8") -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fc.QuantizationWarning)
        return network.astype(dtype)


def test_losses_worked_by_hand() -> None:
    # W = (1, 0.3) is (127, 38) / 127; x = (127, 3.4) is (127, 3) of scale 1, and (10, 0) is exact. R = 0.5 is exact,
    # and so is a h that has one value.
    layer = one_unit([1, 0.3], 0.5)
    x = np.array([[127, 3.4], [10, 0]], np.float32)
    comparison = compare(layer, layer.astype("int8"), x)
    y = np.array([127 + 1.02, 10 + 0.5 * (127 + 1.02)])
    off = 127 + 3 * 38 / 127 - y[0]
    (ih, hh) = comparison.matrices
    assert (ih.name, ih.dtype, hh.name, hh.dtype) == ("weight_ih_l0", "int8", "weight_hh_l0", "int8")
    assert ih.snr_db == pytest.approx(snr(y, y + np.array([off, off / 2])), abs=0.01)
    of_weights = 3.4 * (38 / 127 - 0.3)
    assert ih.weights_db == pytest.approx(snr(y, y + np.array([of_weights, of_weights / 2])), abs=0.05)
    left = 10 ** (-ih.snr_db / 10) - 10 ** (-ih.weights_db / 10)
    assert ih.inputs_db == pytest.approx(-10 * np.log10(left), abs=1e-6)
    assert hh.snr_db > 120
    assert comparison.proposal is not None
    assert comparison.proposal.types == {"weight_ih": "float16", "weight_hh": "int8"}


@pytest.mark.filterwarnings("ignore::fusedcell.QuantizationWarning")  # of projections, whose m is small
@pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
def test_each_matrix_alone_is_what_astype_of_it_alone_costs(kind: Kind) -> None:
    layer = kind.make(kind.weights(6, 9, layers=2))
    x = uniform(3, 60, 2, 6)
    comparison = compare(layer, layer.astype("int8"), x)
    y = layer(x)[0]
    assert {loss.name for loss in comparison.matrices} == set(layer.dtypes)
    for loss in comparison.matrices:
        assert loss.snr_db == pytest.approx(snr(y, layer.astype({loss.name: "int8"})(x)[0]), abs=1e-6)
    found = [loss.snr_db for loss in comparison.matrices]
    assert found == sorted(found)


def test_other_types_round_weights_alone() -> None:
    layer = one_unit([1, 0.3], 0.5)
    comparison = compare(layer, layer.astype({"weight_ih": "bfloat16"}), np.ones((3, 2), np.float32))
    (loss,) = comparison.matrices
    assert (loss.name, loss.dtype) == ("weight_ih_l0", "bfloat16")
    assert loss.weights_db == loss.snr_db
    assert loss.inputs_db == np.inf
    assert comparison.proposal is None


def test_what_collapses_is_named_with_its_features_and_what_mends_it() -> None:
    layer, x = speaker_encoder(units=64), powers(rows=4)
    small = quiet(layer)
    with pytest.warns(fc.QuantizationWarning) as caught:
        comparison = compare(layer, small, x)
    text = str(caught[0].message)
    assert text.startswith(f"weight_ih_l0: in int8 it alone leaves the answer {comparison.matrices[0].snr_db:.1f} dB; ")
    assert caught[0].filename == __file__
    assert comparison.matrices[0].name == "weight_ih_l0"
    assert comparison.proposal is not None
    types = comparison.proposal.types
    assert types == {"weight_ih": "int8", "weight_hh": "int8", "weight_ih_l0": "float16"}
    assert f"by astype({types})" in text
    mended = layer.astype(types)
    y = layer(x)[0]
    assert comparison.proposal.snr_db == pytest.approx(snr(y, mended(x)[0]), abs=1e-6)
    assert comparison.proposal.nbytes == mended.nbytes
    assert comparison.proposal.snr_db > comparison.snr_db + 15
    assert str(types) in str(comparison)


@pytest.mark.parametrize("features", [[2], [0, 5]])
@pytest.mark.parametrize("weight", [0, 1e-3])
def test_features_that_dominate_are_named(features: list[int], weight: float) -> None:
    x = uniform(4, 40, 6) * np.float32(0.1)
    for step in range(len(x)):
        x[step, features[step % len(features)]] = 300
    W = np.ones((3, 6), np.float32)
    W[:, features] = weight  # of 0, rounding x costs all else; of 1e-3, int8 makes it 0
    layer = fc.RNN.from_state_dict({"weight_ih_l0": W, "weight_hh_l0": np.zeros((3, 3))})
    with pytest.warns(fc.QuantizationWarning, match=r"^weight_ih_l0: in int8 it alone leaves") as caught:
        compare(layer, layer.astype("int8"), x)
    blamed = "its weights" if weight else "what it multiplies"
    whole = "of the error" if weight else "of the scales"
    assert f"; rounding {blamed} leaves" in str(caught[0].message)
    assert f" dB: features {features} make 100 % {whole}" in str(caught[0].message)


def test_rows_that_few_weights_dominate_are_named() -> None:
    rng = np.random.default_rng(0)
    W = rng.uniform(-0.3, 0.3, (6, 30)).astype(np.float32)
    W[[1, 4], [3, 7]] = 300
    x = rng.uniform(-1, 1, (200, 30)).astype(np.float32)
    x[:, [3, 7]] = 0
    layer = fc.RNN.from_state_dict({"weight_ih_l0": W, "weight_hh_l0": np.zeros((6, 6))})
    with pytest.warns(
        fc.QuantizationWarning, match=r"in 2 of 6 rows, most in rows \[[14], [14]\], a weight is more than 21 times"
    ) as caught:
        compare(layer, quiet(layer), x)
    assert str(caught[0].message).startswith("weight_ih_l0: ")


def model() -> fc.Model:
    rng = np.random.default_rng(5)

    def array(*shape: int) -> Any:
        return rng.uniform(-0.4, 0.4, shape).astype(np.float32)

    lstm = {"weight_ih_l0": array(32, 6), "weight_hh_l0": array(32, 8)}
    gru = {
        f"{name}_l0{end}": array(12, 8 if name[-2:] == "ih" else 4)
        for name in ("weight_ih", "weight_hh")
        for end in ("", "_reverse")
    }
    return fc.Model(
        [
            ("conv", fc.Window(array(6, 9), taps=3, padding=(2, 0), activation="relu"), "x"),
            ("lstm", fc.LSTM.from_state_dict(lstm), "conv"),
            ("both", fc.GRU.from_state_dict(gru), "lstm"),
            ("head", fc.Dense(array(5, 8), activation="softmax"), "both"),
            ("side", fc.Dense(array(2, 8)), "lstm"),
        ],
        outputs=("head", "side"),
    )


def test_models_by_node_and_matrix() -> None:
    wide, x = model(), uniform(6, 50, 3, 3)
    small = wide.astype("int8")
    comparison = compare(wide, small, x)
    assert isinstance(comparison, ModelComparison)
    answers, others = wide(x), small(x)
    for name, y, other in zip(("head", "side"), answers, others, strict=True):
        assert comparison.snr_db[name] == pytest.approx(snr(y, other), abs=1e-6)
    by_name = {loss.name: loss for loss in comparison.matrices}
    assert set(by_name) == {
        "conv.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "both.weight_ih_l0", "both.weight_hh_l0",
        "both.weight_ih_l0_reverse", "both.weight_hh_l0_reverse", "head.linear.weight", "side.weight",
    }  # fmt: skip
    changes: dict[str, str | dict[str, str]] = {
        "conv.weight": "int8",
        "lstm.weight_hh_l0": {"weight_hh": "int8"},
        "side.weight": "int8",
    }
    for name, change in changes.items():
        alone = wide.astype({name.split(".")[0]: change})(x)
        expected = min(snr(y, other) for y, other in zip(answers, alone, strict=True) if not np.array_equal(y, other))
        assert by_name[name].snr_db == pytest.approx(expected, abs=1e-6)
    report = str(comparison)
    assert report.startswith(f"SNR head {comparison.snr_db['head']:.1f} dB, side {comparison.snr_db['side']:.1f} dB; ")
    assert all(loss.name in report for loss in comparison.matrices[:8])


def test_what_is_proposed_for_a_model_is_what_its_astype_takes() -> None:
    encoder = speaker_encoder(units=32)
    wide = fc.Model([("encoder", encoder, "x"), ("head", fc.Dense(uniform(7, 4, 32)), "encoder")])
    x = powers(rows=3)
    with pytest.warns(fc.QuantizationWarning, match=r"^encoder\.weight_ih_l0: in int8 it alone"):
        comparison = compare(wide, quiet(wide), x)
    assert comparison.proposal is not None
    mended = wide.astype(comparison.proposal.types)
    assert mended.nbytes == comparison.proposal.nbytes
    assert snr(wide(x), mended(x)) == pytest.approx(comparison.proposal.snr_db, abs=1e-6)


@pytest.mark.filterwarnings("ignore::fusedcell.QuantizationWarning")
def test_what_is_proposed_names_the_nodes_that_the_model_has() -> None:
    """A Dense with a softmax is two nodes in a file, and a chain is several."""
    W = uniform(2, 5, 20)
    W[:, 3] = 1e-4  # of what is loud
    x = uniform(3, 60, 2, 20)
    x[..., 3] *= 3000
    chain = fc.nodes.Chain([fc.nodes.Scale(np.ones(20)), fc.Dense(W, activation="tanh")])
    for node in (fc.Dense(W, activation="softmax"), chain):
        wide = fc.Model([("head", node, "x")])
        comparison = compare(wide, wide.astype("int8"), x)
        assert comparison.proposal is not None
        assert comparison.proposal.types == {"head": comparison.proposal.dtype}
        mended = wide.astype(comparison.proposal.types)
        assert snr(wide(x), mended(x)) == pytest.approx(comparison.proposal.snr_db, abs=1e-6)


def test_models_that_differ_are_refused() -> None:
    wide = model()
    other = fc.Model([("conv", fc.Window(np.ones((6, 9)), taps=3), "x")])
    with pytest.raises(ValueError, match="quantised: expected the nodes of model"):
        compare(wide, other, uniform(1, 5, 3))
    with pytest.raises(TypeError, match="quantised: expected a Model, as layer is, got"):
        compare(wide, wide.nodes[1][1], uniform(1, 5, 3))
    small = wide.astype("int8")
    with pytest.raises(ValueError, match=r"^data: expected shape .* got \(5, 4\)"):
        compare(wide, small, uniform(1, 5, 4))
    no_data: tuple[Any, ...] = (None, "x.npy", {"x": uniform(1, 5, 3)})
    for nothing in no_data:
        with pytest.raises(TypeError, match=r"^data: expected an array of floats"):
            compare(wide, small, nothing)
    with pytest.raises(ValueError, match=r"^data: expected an array for each of x, got 2"):
        compare(wide, small, (uniform(1, 5, 3), uniform(1, 5, 3)))
    with pytest.raises(ValueError, match=r"^rows: expected a whole number from 0, got -1"):
        compare(wide, small, uniform(1, 5, 3), rows=-1)


def test_the_whole_network_that_collapses_is_kept_by_a_type() -> None:
    """Three LSTMs of 256: int8 turns its embedding, and with one matrix wider it stays, at a third of the bytes."""
    layer, x = speaker_encoder(), powers(rows=2)
    with pytest.warns(fc.QuantizationWarning, match=r"^weight_ih_l0: a few weights"):
        small = layer.astype("int8")
    mended = layer.astype({"weight_ih": "int8", "weight_hh": "int8", "weight_ih_l0": "float32"})

    def cosine(other: fc.LSTM) -> float:
        a, b = layer(x)[0][-1], other(x)[0][-1]
        cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        return float(cosines.min())

    assert cosine(small) < 0.99
    assert cosine(mended) >= 0.999
    assert mended.nbytes <= 0.32 * layer.nbytes
