"""What has happened on the HTTP surface, in numbers; plain ones, which cost nothing until somebody asks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Counted since the start, but for `open`, which is now. Labels are of our own making, so there are few."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By the pattern of the path, and the status."""
    auth_failures: Counter[str] = field(default_factory=Counter)
    limited: Counter[str] = field(default_factory=Counter)
    opened: int = 0
    closed: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    heartbeats: int = 0
    open: int = 0
    connections: int = 0
    connections_refused: int = 0
