"""Sums and products as symbols and as English words."""

from dataclasses import dataclass
from typing import Literal

from semhub_lens.data.numbers.number_words import LIMIT, number_word


@dataclass(frozen=True)
class Expression:
    """`first` + `second`, or `first` * `second`."""

    first: int
    second: int
    sign: Literal["+", "*"]

    @property
    def result(self) -> int:
        """The value."""
        return self.first + self.second if self.sign == "+" else self.first * self.second

    @property
    def symbols(self) -> str:
        """As in "3+2"."""
        return f"{self.first}{self.sign}{self.second}"

    @property
    def words(self) -> str:
        """As in "three plus two"."""
        return f"{number_word(self.first)} {'plus' if self.sign == '+' else 'times'} {number_word(self.second)}"


def sums() -> list[Expression]:
    """The 846 sums o + t with o >= 1, t in 1..9 and a result below 100.

    Example:
        >>> len(sums()), sums()[0].symbols, sums()[0].words
        (846, '1+1', 'one plus one')
    """
    return [Expression(o, t, "+") for o in range(1, LIMIT) for t in range(1, 10) if o + t < LIMIT]


def products() -> list[Expression]:
    """The 277 products o * t with o >= 1, t in 1..9 and a result below 100.

    Example:
        >>> len(products()), products()[0].symbols, products()[0].words
        (277, '1*1', 'one times one')
    """
    return [Expression(o, t, "*") for o in range(1, LIMIT) for t in range(1, 10) if o * t < LIMIT]
