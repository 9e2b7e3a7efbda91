"""ATen operations on symbolic tensors.

Source: https://docs.pytorch.org/docs/stable/torch.compiler_ir.html, and each operation's page of torch and
torch.nn.functional.
"""

from __future__ import annotations

from . import elementwise, features, matrices, moving, recurrent
from .interpreter import Interpreter
from .lengths import of_lengths
from .loops import Loops
from .values import ATTENTION, Final, Lengths, StateStep, Step, name_of
from .writes import Writes

__all__ = [
    "ATTENTION",
    "Final",
    "Interpreter",
    "Lengths",
    "Loops",
    "StateStep",
    "Step",
    "Writes",
    "elementwise",
    "features",
    "matrices",
    "moving",
    "name_of",
    "of_lengths",
    "recurrent",
]
