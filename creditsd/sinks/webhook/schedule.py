"""The retry schedule of a webhook as a setting: the pause after each failed try."""

from __future__ import annotations

import re
from typing import Any

MOST_PAUSES = 50
SHORTEST_SECONDS, LONGEST_SECONDS = 1.0, 30 * 86_400.0

_UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PAUSE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([smhd]?)")
_WRITTEN = "a pause is written as 5s, 5m, 2h, 1d or in seconds"


def seconds(given: Any) -> Any:
    """Read `["5s", "5m", 7200]` as seconds; what is no list is left to whoever asks. Raises ValueError."""
    if not isinstance(given, list | tuple):
        return given
    if not 1 <= len(given) <= MOST_PAUSES:
        raise ValueError(f"must have 1 to {MOST_PAUSES} pauses")
    return [_seconds(number, each) for number, each in enumerate(given, 1)]


def _seconds(number: int, given: Any) -> float:
    found: float | None = None
    if isinstance(given, str) and (written := _PAUSE.fullmatch(given.strip())):
        found = float(written[1]) * _UNIT_SECONDS[written[2]]
    elif isinstance(given, int | float) and not isinstance(given, bool):
        found = given  # not a float yet, which not every integer can be
    if found is None:
        raise ValueError(f"number {number} is no pause: {_WRITTEN}")
    if not SHORTEST_SECONDS <= found <= LONGEST_SECONDS:
        raise ValueError(f"number {number} must be from 1s to 30d")
    return float(found)
