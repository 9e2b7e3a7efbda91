"""Exceptions and warnings of the package's own."""

from __future__ import annotations


class QuantizationWarning(UserWarning):
    """Rounding to int8 loses more of a matrix, or of what it multiplies, than int8 usually does.

    The message names the matrix, what dominates its rows or inputs, and the argument that mends it.
    """


class UnsupportedError(ValueError):
    """A model asks for something that this version cannot do, so nothing was loaded.

    The message names what was asked for, its value, and what is supported.
    """
