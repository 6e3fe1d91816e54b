"""What the daemon is doing: set here alone, for whoever asks, and told to systemd."""

from __future__ import annotations

import time
from typing import Literal

import structlog

from creditsd.config import systemd

log = structlog.get_logger()

LATE_SECONDS = 60.0
"""Who leads or stands by, and is at one step for so long, is not ready: totals may be as old."""

StateName = Literal["starting", "standby", "backfilling", "leading", "disconnected", "stopping"]


class DaemonState:
    """The state, when the daemon last did something, and what a person must mend; one that is stopping stays that."""

    def __init__(self, stuck_seconds: float, late_seconds: float = LATE_SECONDS) -> None:
        self._stuck_seconds = stuck_seconds
        self._late_seconds = late_seconds
        self._expected_at = time.monotonic()  # when it last did something or, at rest, will
        self._busy_since: float | None = None
        self._problems: dict[str, str] = {}
        self.now: StateName = "starting"
        self.why = ""
        self.said: str | None = None
        """What systemd knows of us since our start succeeded; None before that."""

    @property
    def alive(self) -> bool:
        """Whether it does something, or waits on purpose; a restart would not bring PostgreSQL back any sooner."""
        return self._overdue_seconds < self._stuck_seconds

    @property
    def leads(self) -> bool:
        """Whether it leads, or recomputes everyone before it does."""
        return self.now in ("leading", "backfilling")

    @property
    def ready(self) -> bool:
        """Whether it leads and has recomputed everyone, or stands by for another that leads, and nothing is amiss."""
        return self.now in ("leading", "standby") and not self._problems and not self._is_late

    @property
    def problem(self) -> str | None:
        """What a person must mend, or None."""
        known = any(self.why in each for each in self._problems.values())  # which may be why it does not lead
        apart = [self.why] if self.now == "disconnected" and self.why and not known else []
        late = [f"it has been at one step for {self._overdue_seconds:.0f} s"] if self._is_late else []
        return "; ".join([*apart, *late, *self._problems.values()]) or None

    @property
    def busy_seconds(self) -> float:
        """For how long it has been at one turn of its work; 0 while it rests."""
        return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    @property
    def _overdue_seconds(self) -> float:
        return time.monotonic() - self._expected_at

    @property
    def _is_late(self) -> bool:
        """Whether what it is at takes so long that whoever asks for a total should hear that it may be old."""
        return self.now in ("leading", "standby") and self._overdue_seconds >= self._late_seconds

    def turned(self) -> None:
        """Note that it has just done something."""
        self._expected_at = time.monotonic()

    def work(self) -> None:
        """Note that a turn of work begins."""
        self._expected_at = self._busy_since = time.monotonic()

    def rest(self, seconds: float = 0.0) -> None:
        """Note that it waits for something to do, and may on purpose for so long."""
        self._busy_since, self._expected_at = None, time.monotonic() + seconds

    def note(self, what: str, problem: str, *, logged: bool = False) -> None:
        """Note, and log once unless that is done, what a person must mend; an empty text where nothing is amiss."""
        if problem == self._problems.get(what, ""):
            return
        if problem:
            self._problems[what] = problem
        else:
            del self._problems[what]
        if logged:
            return
        if problem:
            log.error("daemon.hindered", about=what, reason=problem)
        else:
            log.info("daemon.unhindered", about=what)

    def enter(self, state: StateName, why: str = "") -> None:
        """Set the state."""
        if self.now == "stopping":
            return
        self.now, self.why = state, why
        match state:
            case "leading" | "standby":
                self.said = "leading" if state == "leading" else "standing by"
                systemd.ready(self.said)
            case "disconnected":
                waiting = f"waiting: {why}"
                self.said = self.said and waiting
                systemd.status(waiting)
            case "stopping":
                systemd.stopping()
