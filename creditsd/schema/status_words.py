"""Which words the status column can hold, and whether the settings name others."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGES = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class StatusWords:
    """The words of a status column, by the bare name of its type and, of an enum, its labels.

    A word must be as PostgreSQL writes the value as text: that is how a row's status is compared.
    """

    base: str
    labels: list[str] | None

    def hold(self, word: str) -> bool:
        """Whether a row's status can read so."""
        if self.labels is not None:
            return word in self.labels
        if self.base == "bool":
            return word in ("true", "false")
        if self.base in _RANGES:
            most = _RANGES[self.base]
            return _WHOLE.fullmatch(word) is not None and len(word) <= 20 and -most <= int(word) < most
        return True

    @property
    def said(self) -> str:
        """Say which there are, of a type that does not hold every word."""
        if self.labels is not None:
            return f"it has {', '.join(self.labels)}"
        if self.base == "bool":
            return "it is boolean, and has true and false"
        most = _RANGES[self.base]
        return f"it has whole numbers from {-most} to {most - 1}, without leading zeros"
