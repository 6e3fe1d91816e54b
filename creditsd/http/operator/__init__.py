"""The operator's page, its API, and what may be shown beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Turn = Literal["pause", "resume", "test", "replay"]
"""What the page may do with a sink; to enable one is to resume it."""


@dataclass(frozen=True, slots=True)
class Timings:
    """How often the page is told, and how long it waits for the database.

    The state is looked at every `look_seconds`, which takes at most one part in ten of the time. News is told at once,
    and then not sooner than `changes_seconds` later. A viewer who takes nothing for `write_seconds` is let go. A sink
    that is told what is younger than `flowing_seconds` is not behind.
    """

    look_seconds: float = 1.0
    changes_seconds: float = 0.1
    write_seconds: float = 10.0
    state_patience_seconds: float = 5.0
    patience_seconds: float = 15.0
    flowing_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class PageBeside:
    """Another page that is shown beside the operator's, the user to explain at first, and what users are called."""

    page: str
    user_id: str
    names: Mapping[str, str] = field(default_factory=dict)
