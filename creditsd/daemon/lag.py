"""How far the reader of changes is behind, as far as the line can tell without a query."""

from __future__ import annotations

import time


class Lag:
    """Knows from when the oldest change may be that is not recomputed yet.

    A pass reads, in as many pages as it takes, what its first page could see: once it is through, whatever was
    committed before that has been recomputed.
    """

    def __init__(self) -> None:
        self._caught_up = True  # the last pass was of one page, which was not full
        self._pass_began: float | None = None  # of the one under way
        self._through_at = 0.0

    def begin(self) -> None:
        """Count from now: a leadership begins, and what waited before it is not known."""
        self._caught_up, self._pass_began, self._through_at = True, None, time.monotonic()

    def note(self, began: float, *, full: bool) -> None:
        """Note a page that was asked for at a time of the monotonic clock, and whether more of its pass waits."""
        pass_began = began if self._pass_began is None else self._pass_began
        self._caught_up = not full and self._pass_began is None
        self._pass_began = pass_began if full else None
        if not full:
            self._through_at = pass_began

    def seconds(self, *, busy: bool) -> float:
        """Return how old the oldest change may be, where the line is busy or not; 0 at rest, with all of them read."""
        return 0.0 if self._caught_up and not busy else time.monotonic() - self._through_at
