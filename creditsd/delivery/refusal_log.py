"""Logs refused deliveries, so that one sees them without asking; a receiver that refuses many fills no log."""

from __future__ import annotations

import asyncio

import structlog

from creditsd.config.printable import escaped, one_line
from creditsd.sinks import Rejection

log = structlog.get_logger()

PERIOD_SECONDS = 60.0

_ID_LENGTH = 200


class RefusalLog:
    """A line for each refusal, up to so many a minute: the first of a total at info, each further one as a warning."""

    def __init__(self, sink: str, most: int) -> None:
        self._sink = sink
        self._most = most
        self._begun_at = float("-inf")
        self._lines = 0
        self._left_out = 0

    def refused(self, rejection: Rejection, attempt: int, next_try_seconds: float | None) -> None:
        """Log a refusal: which try of this total it was, and when the next one is; None: never."""
        now = asyncio.get_running_loop().time()
        if now - self._begun_at >= PERIOD_SECONDS:
            self._say_left_out()
            self._begun_at, self._lines = now, 0
        if self._lines >= self._most:
            self._left_out += 1
            return
        self._lines += 1
        say, event = (log.info, "deliveries.refused") if attempt <= 1 else (log.warning, "deliveries.refused_again")
        say(
            event,
            sink=self._sink,
            user_id=escaped(rejection.total.user_id)[:_ID_LENGTH],
            version=rejection.total.version,
            attempt=attempt,
            reason=one_line(rejection.reason),
            next_try_seconds=None if next_try_seconds is None else round(next_try_seconds, 1),
        )
        if self._lines == self._most:
            hint = f"more within this minute are only counted: see `creditsd deliveries list --sink {self._sink}`"
            log.warning("deliveries.refusals_bounded", sink=self._sink, lines=self._most, hint=hint)

    def _say_left_out(self) -> None:
        if self._left_out:
            log.warning("deliveries.refusals_left_out", sink=self._sink, refusals=self._left_out)
            self._left_out = 0
