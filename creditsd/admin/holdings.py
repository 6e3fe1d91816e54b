"""What each sink has of one user, in words: what it answers where it can be asked, else what it has been told."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping

from creditsd.admin.failed_deliveries import FailedDelivery
from creditsd.admin.sink_condition import STANDS_STILL
from creditsd.admin.sinks import ListedSink
from creditsd.config.settings import Settings, SinkSettings
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total
from creditsd.sinks import Sink, make, told_only_of

CURRENT = "current"


class Holdings:
    """One user at every sink: the stored total, and what was refused of it."""

    def __init__(
        self, settings: Settings, user_id: str, stored: Total | None, refused: Mapping[str, FailedDelivery]
    ) -> None:
        self._settings = {each.name: each for each in settings.sinks}
        self._user_id = user_id
        self._stored = stored
        self._refused = refused

    async def said(self, sink: ListedSink) -> str:
        """Say what a sink has, what it refused, and why it has no more."""
        settings = self._settings.get(sink.name)
        holds = await self._asked(settings) if settings is not None else None
        letter = self._refused.get(sink.name)
        if holds is None:
            holds = None if letter is not None else self._told(sink)
        parts = [] if holds is None else [holds]
        if letter is not None:
            parts.append(self._letter(letter))
        if sink.state in STANDS_STILL and holds != CURRENT:
            parts.append(f"the sink: {sink.said} ({sink.hint})")
        return "; ".join(parts)

    async def _asked(self, settings: SinkSettings) -> str | None:
        """Ask a sink what it holds; None where it cannot tell."""
        sink = make(settings)
        if told_only_of(sink):
            return f"is told of no totals, only of {', '.join(told_only_of(sink))}"
        try:
            held = await self._held(sink)
        except SinkUnavailable as error:
            return f"cannot be asked: {error}"
        if held is None:
            return None
        if self._stored is None:
            return f"version {held}, which is stored nowhere"
        return CURRENT if held == self._stored.version else f"version {held}; the newest is {self._stored.version}"

    async def _held(self, sink: Sink) -> int | None:
        try:
            await sink.open()
            return await sink.held(self._user_id)
        finally:
            with contextlib.suppress(SinkUnavailable):
                await sink.close()

    def _told(self, sink: ListedSink) -> str:
        if self._stored is None:
            return "nothing"
        return "was told the newest" if sink.cursor >= self._stored.version else "has yet to be told the newest"

    def _letter(self, letter: FailedDelivery) -> str:
        which = "the newest" if self._stored is not None and letter.version == self._stored.version else "a total"
        who = f"{letter.sink} {shlex.quote(self._user_id)}"
        times = "once" if letter.attempt == 1 else f"{letter.attempt} times"
        what, then = f"refused {which}, tried {times}: {letter.last_error}", f"creditsd deliveries show {who}"
        if letter.next_at is None:
            return f"{what}; a dead letter (creditsd deliveries retry {who})"
        return f"{what}; it is tried again ({then})"
