"""What the daemon is doing: set here alone, for whoever asks, and told to systemd."""

from __future__ import annotations

import time
from typing import Literal

from creditsd.config import systemd

StateName = Literal["starting", "standby", "backfilling", "leading", "disconnected", "stopping"]


class DaemonState:
    """The state, and when the daemon last did something; a daemon that is stopping stays that."""

    def __init__(self, stuck_seconds: float) -> None:
        self._stuck_seconds = stuck_seconds
        self._turned_at = time.monotonic()
        self.now: StateName = "starting"
        self.why = ""

    @property
    def alive(self) -> bool:
        """Whether it does something, or waits on purpose; a restart would not bring PostgreSQL back any sooner."""
        return time.monotonic() - self._turned_at < self._stuck_seconds

    @property
    def leads(self) -> bool:
        """Whether it leads, or recomputes everyone before it does."""
        return self.now in ("leading", "backfilling")

    @property
    def ready(self) -> bool:
        """Whether it leads and has recomputed everyone, or stands by for another that leads."""
        return self.now in ("leading", "standby")

    def turned(self) -> None:
        """Note that it has just done something."""
        self._turned_at = time.monotonic()

    def enter(self, state: StateName, why: str = "") -> None:
        """Set the state."""
        if self.now == "stopping":
            return
        self.now, self.why = state, why
        match state:
            case "leading":
                systemd.ready("leading")
            case "standby":
                systemd.ready("standing by")
            case "disconnected":
                systemd.status(f"waiting: {why}")
            case "stopping":
                systemd.stopping()
