"""A figure is several measurements of one thing: their median, and how far they lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """Measurements of one thing, one a round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        return f"{self.median:,.0f} ({low:,.0f}-{high:,.0f})".replace(",", " ")

    def ratio_to(self, other: Figure) -> Figure:
        """Divide round by round: what slowed the machine down in a round slowed both."""
        return Figure(tuple(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)))

    def as_ratio(self) -> str:
        return f"{self.median:.2f} ({min(self.values):.2f}-{max(self.values):.2f})"


def figure(values: Sequence[float]) -> Figure:
    return Figure(tuple(values))


def grouped(number: float) -> str:
    """Write a whole number with its thousands apart."""
    return f"{number:,.0f}".replace(",", " ")


def percentile(sample: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of the sample do not exceed."""
    ordered = sorted(sample)
    return ordered[max(0, -(-len(ordered) * percent // 100).__trunc__() - 1)]
