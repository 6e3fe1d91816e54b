"""Whether a sink takes totals: tells an ill sink from a few refused deliveries, and when to try it again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice

import structlog

from creditsd.config.printable import one_line
from creditsd.delivery.timings import Bounds, Timings
from creditsd.domain.backoff import Backoff
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.sinks import SinkBusy, SinkRefusing

log = structlog.get_logger()

_ERROR_LENGTH = 500

# Where to look for somebody to try: at the front of a page, at its back, and the third time beyond it.
_PLACES, _BEYOND = 3, 2


class RefusesEveryone(SinkUnavailable):
    """The receiver answers, and takes nobody's total."""


class SinkHealth:
    """An ill sink is probed with one total at a time, each time another user's: one delivery may have itself to blame.

    It is well again when something has arrived. Refusals make a sink ill where many users are refused and nothing
    arrives in between.
    """

    def __init__(self, name: str, timings: Timings, bounds: Bounds) -> None:
        self._name = name
        self._enough = bounds.refused_together
        self._backoff = Backoff(timings.first_pause_seconds, timings.longest_pause_seconds, timings.pause_growth)
        self._refused: set[str] = set()  # users, since something has arrived
        self._probes = 0
        self._timings = timings
        self._arrived_at = float("-inf")
        self._ill_since: float | None = None  # until something has arrived and nobody was asked to wait
        self._proven = False
        self._opening = False  # whether it failed to open
        self._refusal: str | None = None
        self.error: str | None = None
        """Why it is ill, or was when last tried."""
        self.ill = False

    @property
    def failing(self) -> str | None:
        """Why nothing arrived when something was last tried; None where something did, or nothing was tried."""
        return self.error or self._refusal

    def begin_anew(self) -> None:
        """Forget all, for another daemon may have led."""
        self._backoff.begin_anew()
        self._refused.clear()
        self._probes = 0
        self._proven = self._opening = self.ill = False
        self._arrived_at, self._ill_since = float("-inf"), None
        self.error = self._refusal = None

    def resumed(self) -> None:
        """Forget why it was ill, for a person has looked after it; whether it is well only a probe tells."""
        self._backoff.begin_anew()
        self.error = self._refusal = None

    def size(self, most: int) -> int:
        """Return how many totals to risk at once: few until it has taken some."""
        return most if self._proven else min(most, self._enough)

    @property
    def looks_beyond(self) -> bool:
        """Whether to try somebody far behind, where there are many: one time in three."""
        return self._probes % _PLACES == _BEYOND

    @property
    def looks_beyond_first(self) -> bool:
        """Whether that is for the first time."""
        return self._probes == _BEYOND

    def probe(self, totals: Sequence[Total]) -> Total | None:
        """Choose what to try of totals, each user's first; None where each of these few has been refused by itself."""
        first: dict[str, Total] = {}
        for total in totals:
            first.setdefault(total.user_id, total)
        if len(first) < self._enough and self._refused.issuperset(first):
            return None
        turn = self._probes - self._probes // _PLACES  # but for those that were looked for elsewhere
        number = turn % len(first)  # now from the front, now from the back: the ill may stand together
        return list(first.values())[-1 - number // 2 if number % 2 else number // 2]

    @property
    def lately_well(self) -> bool:
        """Whether somebody's total has arrived so lately that whoever breaks it has themselves to blame."""
        return _now() - self._arrived_at < self._timings.witness_seconds

    def arrived(self, *, busy: bool = False) -> bool:
        """Note that it takes totals; `busy`, it took some and wants no more for a while.

        Return whether it is well again after so long that nobody is to wait for it who was refused meanwhile.
        """
        self._arrived_at = _now()
        self._backoff.begin_anew()
        self._refused.clear()
        self._refusal = None
        self._probes = _BEYOND - 1 if self.ill and self.looks_beyond else 0  # it begins where somebody was found
        self._proven, self.ill = True, False
        if busy:
            return False
        if self.error is not None:
            log.info("publisher.recovered", sink=self._name)
            self.error = None
        ill_since, self._ill_since = self._ill_since, None
        return ill_since is not None and self._arrived_at - ill_since >= self._timings.pull_forward_seconds

    def refused(self, users: Iterable[str], reason: str) -> RefusesEveryone | None:
        """Note that these were refused, and nobody's total has arrived; return what to raise where it is too many."""
        self._refusal = reason
        self._refused.update(islice(users, self._enough))
        self._proven = False
        if self.ill or len(self._refused) >= self._enough:
            return RefusesEveryone(f"sink {self._name}: refuses every delivery, e.g. {reason}")
        return None

    def reached(self) -> None:
        """Note that it could be opened, where nothing else is there to try."""
        if self._opening:
            log.info("publisher.reached", sink=self._name)
            self._backoff.begin_anew()
            self._opening, self.error = False, None

    def acquitted(self) -> None:
        """Note that it only refuses these few users."""
        self.ill = False

    def failed(self, error: SinkUnavailable, *, opening: bool = False) -> float:
        """Note why it cannot be told anything now; return how long to leave it alone."""
        self._opening = opening
        through = isinstance(error, SinkBusy) and error.through and not isinstance(error, SinkRefusing)
        self.ill = self.ill or not through
        if self.ill and self._ill_since is None:
            self._ill_since = _now()
        self._probes += 1
        if not isinstance(error, RefusesEveryone):
            self._refused.clear()
        seconds = self._backoff.next(getattr(error, "retry_after_seconds", None))
        said = one_line(str(error), longest=_ERROR_LENGTH)
        say = log.warning if self.error is None else log.info
        self.error = said
        say("publisher.backed_off", sink=self._name, reason=said, next_try_seconds=round(seconds, 2))
        return seconds


def _now() -> float:
    return asyncio.get_running_loop().time()
