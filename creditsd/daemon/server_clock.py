"""Whether the server's clock went back: by then time may have changed totals that it should not have changed yet."""

from __future__ import annotations

TOLERANCE_SECONDS = 1.0  # a total is wrong for no longer than the clock went back


class ServerClock:
    """Compares the server's clock with our monotonic one, from answer to answer of one session."""

    def __init__(self) -> None:
        self._read = 0.0
        self._answered_at = float("inf")

    def went_back(self, read: float, *, asked_at: float, answered_at: float) -> bool:
        """Take what the server's clock said to a question; True where less has passed there than at least has here."""
        passed_there, passed_here = read - self._read, asked_at - self._answered_at
        self._read, self._answered_at = read, answered_at
        return passed_there < passed_here - TOLERANCE_SECONDS
