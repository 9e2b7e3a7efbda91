"""Numbers that a model learns when it runs: polynomials in the sizes of its inputs' axes, each 0 or more."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from ...errors import UnsupportedError

Symbol: TypeAlias = tuple[int, str]  # a number of its own, and what people call it
Number: TypeAlias = "int | Size"

_MAX_TERMS = 20
_MAX_DEGREE = 10
_MAX_COEFFICIENT = 2**63
_MOST_SIZE = 2**22  # steps or rows, so that models may count them in float32 and double them
_NUMBERS = itertools.count()


@dataclass(frozen=True, repr=False)
class Size:
    """A sum of products of symbols, each with its coefficient; never a plain number, which is an int."""

    terms: tuple[tuple[tuple[Symbol, ...], int], ...]

    @classmethod
    def new(cls, text: str) -> Size:
        """A size that equals no other."""
        return cls(((((next(_NUMBERS), text),), 1),))

    def __add__(self, other: Number) -> Number:
        return plus(self, other)

    def __mul__(self, other: Number) -> Number:
        return times(self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __repr__(self) -> str:
        text = ""
        for symbols, factor in self.terms:
            products = [str(abs(factor))] * (abs(factor) != 1 or not symbols) + [name for _, name in symbols]
            sign = ("-" if factor < 0 else "") if not text else " - " if factor < 0 else " + "
            text += sign + " * ".join(products)
        return text


def plus(a: Number, b: Number) -> Number:
    """a + b. Raises UnsupportedError, as all of these, for what gets out of hand."""
    terms = _terms(a)
    for monomial, factor in _terms(b).items():
        terms[monomial] = terms.get(monomial, 0) + factor
    return _made(terms)


def minus(a: Number, b: Number) -> Number:
    """a - b."""
    return plus(a, times(-1, b))


def times(a: Number, b: Number) -> Number:
    """a * b."""
    terms: dict[tuple[Symbol, ...], int] = {}
    for (m, factor), (n, other) in itertools.product(_terms(a).items(), _terms(b).items()):
        monomial = tuple(sorted(m + n))
        terms[monomial] = terms.get(monomial, 0) + factor * other
    return _made(terms)


def product(sizes: Iterable[Number]) -> Number:
    """All of them multiplied."""
    result: Number = 1
    for size in sizes:
        result = times(result, size)
    return result


def over(a: Number, b: Number) -> Number:
    """a / b where that leaves no remainder; UnsupportedError elsewhere."""
    if b != 0 and len(_terms(b)) == 1:
        ((divisor, factor),) = _terms(b).items()
        terms = {}
        for monomial, coefficient in _terms(a).items():
            left = list(monomial)
            for symbol in divisor:
                if symbol in left:
                    left.remove(symbol)
            if coefficient % factor or len(left) + len(divisor) != len(monomial):
                break
            terms[tuple(left)] = coefficient // factor
        else:
            return _made(terms)
    raise UnsupportedError(f"({a}) / ({b}) is not a size for every size of the inputs")


def is_positive(a: Number) -> bool:
    """Whether a > 0 for every size of the inputs; UnsupportedError where that depends on them."""
    lower, upper = _bounds(a)
    if lower is not None and lower > 0:
        return True
    if upper is not None and upper <= 0:
        return False
    raise UnsupportedError(f"whether {a} > 0 depends on the sizes of the inputs")


def is_equal(a: Number, b: Number) -> bool:
    """Whether a == b for every size of the inputs; UnsupportedError where that depends on them."""
    lower, upper = _bounds(minus(a, b))
    if lower == upper == 0:
        return True
    if (lower is not None and lower > 0) or (upper is not None and upper < 0):
        return False
    raise UnsupportedError(f"whether {a} == {b} depends on the sizes of the inputs")


def most(a: Number) -> int:
    """What |a| cannot be above, whatever is added to what, with sizes of at most `_MOST_SIZE`."""
    return sum(abs(factor) * _MOST_SIZE ** len(monomial) for monomial, factor in _terms(a).items())


def _bounds(a: Number) -> tuple[int | None, int | None]:
    """The least and the most that a can be, as symbols are 0 or more; None where there is no such bound."""
    terms = _terms(a)
    constant = terms.pop((), 0)
    least = constant if all(factor >= 0 for factor in terms.values()) else None
    return least, constant if all(factor <= 0 for factor in terms.values()) else None


def _terms(a: Number) -> dict[tuple[Symbol, ...], int]:
    return dict(a.terms) if isinstance(a, Size) else {(): a}


def _made(terms: dict[tuple[Symbol, ...], int]) -> Number:
    kept = {monomial: factor for monomial, factor in terms.items() if factor}
    if (
        len(kept) > _MAX_TERMS
        or any(len(monomial) > _MAX_DEGREE for monomial in kept)
        or any(abs(factor) >= _MAX_COEFFICIENT for factor in kept.values())
    ):
        raise UnsupportedError("it makes numbers of the inputs' sizes that are too long to follow")
    return Size(tuple(sorted(kept.items()))) if kept.keys() - {()} else kept.get((), 0)
