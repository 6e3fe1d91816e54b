"""What became of the application's writes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Transactions by their shape; those that failed for a reason, for their isolation level, and for none."""

    written: Counter[str] = field(default_factory=Counter)
    excused: int = 0
    serialization: int = 0
    failures: list[str] = field(default_factory=list)
