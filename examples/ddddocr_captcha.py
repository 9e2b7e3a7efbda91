"""Read captchas with ddddocr's two trained networks, their bidirectional LSTM (512 -> 2 x 512) in fusedcell.

ONNX Runtime computes what is before the LSTM and behind it, cut out of the package's models, and the whole models
beside them. common.onnx is float32; common_old.onnx has the LSTM as ONNX Runtime's DynamicQuantizeLSTM: int8 weights,
and x and h rounded to 256 levels, x over the whole picture. That rounding is a part of ONNX Runtime and not of the
file, so three ways of computing the file's LSTM are shown: ONNX Runtime's own scheme, in NumPy; fusedcell in float32,
with the weights that the file's integers stand for; and fusedcell in int8, with the file's integers and its own
rounding of x and h. "Exact" is float64 with the weights of the file and nothing else rounded.

Success is: every way reads the text that the whole model reads; fusedcell's float32 is within 1e-5 of the exact y, and
for common.onnx of ONNX Runtime's; and ONNX Runtime's scheme gives its y to 1e-5, for as long as both round h to the
same levels: where an h lies on the edge between two, the last bit of a float32 decides, and a sequence goes on from
there at up to a level's distance. At least half of the sequences must never part. (On x86 CPUs without VNNI ONNX
Runtime's int8 products may saturate, by its own documentation; then its y is another and the example fails.)
"""

import importlib.metadata
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from _text_images import draw_captcha

import fusedcell
from fusedcell import reference

Array = npt.NDArray[np.float32]
Compute = Callable[[Array], Array]

RELEASE = "1.6.1"
TEXTS = ("7Kpd3", "fusedcell", "a9Xm2", "Qw3rT", "x4b8n", "hello42")
CHARACTERS = {"common.onnx": "CHARSET_BETA", "common_old.onnx": "CHARSET_OLD"}
TOLERANCE = 1e-5
SCHEME = "ONNX Runtime's scheme, in NumPy"
ROUNDS = 5  # of timing


def package_file(name: str) -> str:
    # Located by its metadata, since importing the package needs OpenCV and its files do not.
    distribution = importlib.metadata.distribution("ddddocr")
    if distribution.version != RELEASE:
        sys.exit(f"ddddocr {distribution.version} is installed; this example is about {RELEASE}")
    return str(distribution.locate_file(f"ddddocr/{name}"))


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # the models declare an output of another shape than they have
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Recogniser:
    """One model, whole and in three parts: `before`, `lstm` and `behind`."""

    def __init__(self, name: str) -> None:
        self.model = onnx.load(package_file(name))
        graph = self.model.graph
        (self.node,) = (node for node in graph.node if "LSTM" in node.op_type)
        self.quantised = self.node.op_type == "DynamicQuantizeLSTM"
        x, y = self.node.input[0], self.node.output[0]
        self._characters: list[str] = runpy.run_path(package_file("charsets.py"))[CHARACTERS[name]]
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._whole = session(self.model)
        known = {value.name for value in graph.value_info}
        for cut in {x, y} - known:
            graph.value_info.append(onnx.helper.make_tensor_value_info(cut, onnx.TensorProto.FLOAT, None))
        extractor = onnx.utils.Extractor(self.model)
        pairs = ((graph.input[0].name, x), (x, y), (y, graph.output[0].name))
        self._parts = [session(extractor.extract_model([first], [last])) for first, last in pairs]

    def whole(self, picture: Array) -> str:
        return self._text(self._run(self._whole, picture))

    def before(self, picture: Array) -> Array:
        """(T, 1, 512), from left to right."""
        return self._run(self._parts[0], picture)

    def lstm(self, x: Array) -> Array:
        """ONNX Runtime's: (T, 1, 2 * 512), the forward direction first."""
        return arranged(self._run(self._parts[1], x))

    def behind(self, y: Array) -> str:
        return self._text(self._run(self._parts[2], y.reshape(len(y), 1, 2, -1).swapaxes(1, 2)))

    def inputs(self) -> dict[str, npt.NDArray[np.generic]]:
        """The node's weights, by the names that the operator's text gives them."""
        names = {1: "W", 2: "R", 3: "B", 8: "W_scale", 9: "W_zero_point", 10: "R_scale", 11: "R_zero_point"}
        given = {names[index]: name for index, name in enumerate(self.node.input) if index in names}
        return {role: onnx.numpy_helper.to_array(self._initializers[name]) for role, name in given.items()}

    @staticmethod
    def _run(part: onnxruntime.InferenceSession, value: Array) -> Array:
        result: Array = part.run(None, {part.get_inputs()[0].name: value})[0]
        return result

    def _text(self, scores: Array) -> str:
        """The best character of each column; repetitions are one, and the first of all characters is none."""
        best = scores.reshape(-1, scores.shape[-1]).argmax(axis=1)
        first = np.diff(best, prepend=0) != 0
        return "".join(self._characters[index] for index in best[first])


def arranged(Y: npt.NDArray[np.floating]) -> Array:
    """[T, D, B, H], which is ONNX's, as (T, B, D * H)."""
    return Y.swapaxes(1, 2).reshape(len(Y), Y.shape[2], -1).astype(np.float32)


def exact(recogniser: Recogniser) -> Compute:
    """The LSTM in float64, with the weights of the file as they are."""
    inputs = recogniser.inputs()
    if recogniser.quantised:
        for role in ("W", "R"):
            scale, zero_point = (
                inputs.pop(f"{role}_{name}").astype(np.float64).reshape(2, 1, -1) for name in ("scale", "zero_point")
            )
            inputs[role] = ((inputs[role] - zero_point) * scale).swapaxes(1, 2)
    return lambda x: arranged(reference.onnx_lstm(x, **inputs, direction="bidirectional")[0])


def original_scheme(recogniser: Recogniser) -> Compute:
    """ONNX Runtime's arithmetic for the quantised LSTM."""
    inputs = recogniser.inputs()
    return lambda x: arranged(reference.ort_dynamic_quantize_lstm(x, **inputs, direction="bidirectional")[0])


def levels(h: Array) -> Array:
    """What ONNX Runtime rounds the h of one step to."""
    low, high = min(h.min(), np.float32(0)), max(h.max(), np.float32(0))
    scale = (high - low) / np.float32(255)
    return np.clip(np.rint(h / scale) + np.rint(-low / scale), 0, 255)


def until_levels_part(a: Array, b: Array) -> tuple[float, bool]:
    """Of one direction (T, 512) in its order of time: the largest difference until then, and whether they part."""
    for t, (left, right) in enumerate(zip(a, b, strict=True)):
        if not np.array_equal(levels(left), levels(right)):
            return float(np.abs(a - b)[: t + 1].max()), t + 1 < len(a)
    return float(np.abs(a - b).max()), False


def check_scheme(outputs: Sequence[Array], original: Sequence[Array]) -> list[str]:
    pairs = []
    for y, expected in zip(outputs, original, strict=True):
        forward, reverse = np.split(np.stack([y, expected])[:, :, 0], 2, axis=2)
        pairs += [until_levels_part(*forward), until_levels_part(*reverse[:, ::-1])]
    largest_before, parted = max(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    print(
        f"    its y is ONNX Runtime's to {largest_before:.1e}, in {parted} of {len(pairs)} sequences until levels part"
    )
    failures = []
    if not largest_before <= TOLERANCE:
        failures.append(f"ONNX Runtime's scheme gives another y by {largest_before:.1e}, over {TOLERANCE:.0e}")
    if parted > len(pairs) / 2:
        failures.append(f"{parted} of {len(pairs)} sequences part from ONNX Runtime's")
    return failures


@dataclass(frozen=True)
class Way:
    """One way of computing the LSTM, and what may differ from ONNX Runtime's y and from the exact y."""

    label: str
    compute: Compute
    from_original: float = np.inf
    from_exact: float = np.inf
    is_timed: bool = True


def ways(recogniser: Recogniser) -> list[Way]:
    # The one recurrent node; named here as a model with several would need it.
    node = recogniser.node.name
    float32 = fusedcell.from_onnx(recogniser.model, node)
    if not recogniser.quantised:
        return [Way("fusedcell, float32", lambda x: float32(x)[0], from_original=TOLERANCE, from_exact=TOLERANCE)]
    int8 = fusedcell.from_onnx(recogniser.model, node, dtype="int8")
    return [
        Way(SCHEME, original_scheme(recogniser), is_timed=False),
        Way("fusedcell, float32", lambda x: float32(x)[0], from_exact=TOLERANCE),
        Way("fusedcell, int8", lambda x: int8(x)[0]),
    ]


def time_ratio(compute: Compute, original: Compute, x: Array) -> float:
    """How much of the original's time it takes: the fastest of some runs of each, taken in turns."""
    fastest = [float("inf")] * 2
    for _ in range(ROUNDS):
        for index, function in enumerate((compute, original)):
            begin = perf_counter_ns()
            function(x)
            fastest[index] = min(fastest[index], perf_counter_ns() - begin)
    return fastest[0] / fastest[1]


def differences(a: Sequence[Array], b: Sequence[Array]) -> tuple[float, float]:
    """The largest, and the root of the mean square."""
    difference = np.concatenate(a) - np.concatenate(b)
    return float(np.abs(difference).max()), float(np.sqrt(np.square(difference).mean()))


def shown(values: Sequence[float]) -> list[str]:
    return [f"{value:.1e}" for value in values]


def check(name: str, pictures: Sequence[Array]) -> list[str]:
    """Prints the rows of one model; returns what is not as it should be."""
    recogniser = Recogniser(name)
    expected = [recogniser.whole(picture) for picture in pictures]
    features = [recogniser.before(picture) for picture in pictures]
    original = [recogniser.lstm(x) for x in features]
    compute_exact = exact(recogniser)
    precise = [compute_exact(x) for x in features]
    print(f"\n{name}: the whole model in ONNX Runtime reads {' '.join(expected)}")
    row = "  {:<36} {:>9} {:>8}   {:>8} {:>8}   {:>6}   {}"
    print(f"  {'':<36} {'y from ONNX Runtime':>18}   {'from the exact y':>17}   {'time':>6}   same")
    print(row.format(recogniser.node.op_type + " by", "largest", "rms", "largest", "rms", "/ ORT", "text"))
    print(row.format("ONNX Runtime", "", "", *shown(differences(original, precise)), 1, "").rstrip())
    failures = []
    for way in ways(recogniser):
        outputs = [way.compute(x) for x in features]
        from_original, from_exact = differences(outputs, original), differences(outputs, precise)
        same = sum(recogniser.behind(y) == text for y, text in zip(outputs, expected, strict=True))
        ratio = f"{time_ratio(way.compute, recogniser.lstm, features[0]):.2f}" if way.is_timed else ""
        print(row.format(way.label, *shown(from_original), *shown(from_exact), ratio, f"{same} of {len(expected)}"))
        if way.label == SCHEME:
            failures += check_scheme(outputs, original)
        if same < len(expected):
            failures.append(f"{name}, {way.label}: {len(expected) - same} texts differ")
        limits = (("ONNX Runtime's", from_original[0], way.from_original), ("the exact", from_exact[0], way.from_exact))
        for whose, difference, limit in limits:
            if not difference <= limit:
                failures.append(f"{name}, {way.label}: y differs from {whose} by {difference:.1e}, over {limit:.0e}")
    return failures


def main() -> None:
    pictures = [draw_captcha(text, seed)[None, None] / np.float32(255) for seed, text in enumerate(TEXTS)]
    print(f"drawn: {' '.join(TEXTS)}")
    failures = [failure for name in CHARACTERS for failure in check(name, pictures)]
    if failures:
        sys.exit("failed: " + "; ".join(failures))


if __name__ == "__main__":
    main()
