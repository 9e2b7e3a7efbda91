"""What narrower weights cost on your own data, and fixed scales for int8 inputs found from it.

>>> import numpy as np, fusedcell as fc
>>> layer = fc.RNN.from_state_dict({"weight_ih_l0": np.eye(2), "weight_hh_l0": np.eye(2) / 2})
>>> x = np.linspace(-1, 1, 200).reshape(100, 2)
>>> scales = fc.quantization.input_scales(layer, x)
>>> comparison = fc.quantization.compare(layer, layer.astype("int8", input_scales=scales), x)
>>> comparison.snr_db > 40
True

``print(comparison)`` is a report for the terminal, and ``comparison.plot("error.png")`` draws it.
"""

from .attribution import Loss, Proposal
from .calibration import Calibration, calibrate
from .comparison import Comparison, ModelComparison, compare
from .report import Step
from .scales import input_scales
from .sources import Row, Source

__all__ = [
    "Calibration",
    "Comparison",
    "Loss",
    "ModelComparison",
    "Proposal",
    "Row",
    "Source",
    "Step",
    "calibrate",
    "compare",
    "input_scales",
]
