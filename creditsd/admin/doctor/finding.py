"""One thing that was looked at: what was found, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from creditsd.domain.errors import CreditsdError

Level = Literal["good", "note", "problem"]

EX_FOUND = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing: all is good, it is worth knowing, or somebody must mend it.

    `exit_code` is what the command ends with where this is the worst that was found.
    """

    about: str
    level: Level
    said: str
    hint: str = ""
    exit_code: int = 0

    def document(self) -> dict[str, str]:
        """Give it under the keys of `creditsd doctor --json`."""
        return {"about": self.about, "level": self.level, "said": self.said, "hint": self.hint}


def good(about: str, said: str) -> Finding:
    """Say that all is as it should be."""
    return Finding(about, "good", said)


def note(about: str, said: str, hint: str = "") -> Finding:
    """Say what is worth knowing, though nothing must be mended."""
    return Finding(about, "note", said, hint)


def problem(about: str, said: str, hint: str = "") -> Finding:
    """Say what somebody must mend, and how."""
    return Finding(about, "problem", said, hint, EX_FOUND)


def failed(about: str, error: CreditsdError) -> Finding:
    """Say why something could not be looked at; the hint is part of what an error says."""
    return Finding(about, "problem", str(error).removeprefix(f"{about}: "), "", error.exit_code)
