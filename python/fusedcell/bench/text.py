"""The package's numbers and columns as text, for the rooms of the bench."""

from .._text import aligned, format_ratio, three_digits

__all__ = ["aligned", "format_ratio", "three_digits"]
