"""Exceptions of the package's own."""

from __future__ import annotations


class UnsupportedError(ValueError):
    """A model asks for something that this version cannot do, so nothing was loaded.

    The message names what was asked for, its value, and what is supported.
    """
