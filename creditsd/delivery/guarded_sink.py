"""Calls a sink: opens it when needed, and takes whatever its client library raises for the sink's own failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import structlog

from creditsd.delivery.tracer import Tracer
from creditsd.domain import cancellation
from creditsd.domain.delivery_attempt import DeliveryAttempt
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.owner import Owner
from creditsd.domain.total import Total
from creditsd.sinks import Beginning, Choosing, Journaling, Owned, Paced, Rejection, Sink, SinkBusy, Traced, open_for

log = structlog.get_logger()


class GuardedSink:
    """Counts an exception that nobody expected as unavailability, and logs it once with its traceback."""

    def __init__(self, name: str, sink: Sink, tracer: Tracer | None = None) -> None:
        self._name = name
        self._sink = sink
        self.tracer = tracer
        self._open = False
        self._owner: Owner | None = None  # as whom it was opened
        self._cut_off = False  # whether the last call has not come to an end
        self._logged: str | None = None
        self.chooses_events = isinstance(sink, Choosing)
        self.paced = isinstance(sink, Paced) and sink.paced
        self._begin = sink.begin if isinstance(sink, Beginning) else None  # asked once: each total comes this way
        self.disable_after_seconds: float | None = getattr(sink, "disable_after_seconds", None)
        self.retry_delays_seconds: Sequence[float] | None = getattr(sink, "retry_delays_seconds", None)

    @property
    def max_batch(self) -> int:
        """The most totals one `deliver` takes."""
        return self._sink.max_batch

    def heed(self, overtaken: Callable[[Total], bool]) -> None:
        """Have a sink that is paced pass over a total of which this is true when its turn comes."""
        if isinstance(self._sink, Paced):
            self._sink.heed(overtaken)

    def trace(self, headers: Mapping[str, str]) -> None:
        """Have the next delivery carry what it is traced by, where the sink has a place for that."""
        if isinstance(self._sink, Traced):
            self._sink.trace(headers)

    def attempts(self) -> Sequence[DeliveryAttempt]:
        """Return what was sent since this was asked last, of a sink that remembers it."""
        return self._sink.attempts() if isinstance(self._sink, Journaling) else ()

    def hurry(self) -> None:
        """Have nobody wait for a turn any more."""
        if isinstance(self._sink, Paced):
            self._sink.hurry()

    async def open(self, owner: Owner) -> None:
        """Connect as an installation, unless it is connected. Raises SinkUnavailable, also where another one writes."""
        other = isinstance(self._sink, Owned) and owner != self._owner
        if self._open and not other:
            return
        if self._cut_off or other:  # what may still be on its way must not arrive after what comes next
            await self.close()
        self._owner = owner
        with self._guarded():
            await open_for(owner, self._sink)
        self._open = True

    def begin(self, totals: Sequence[Total]) -> bool:
        """Send totals that are delivered next, where the sink is open and can do that without waiting.

        Not where deliveries are traced: what is sent is to be within its span. Raises nothing: `deliver` meets it too.
        """
        if self._begin is None or not self._open or self.tracer is not None:
            return False
        begun = False
        with suppress(Exception):
            begun = self._begin(totals)
        if begun:
            self._open, self._cut_off = False, True
        return begun

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Hand over totals; return those refused. Raises SinkUnavailable, and is then to be opened again."""
        self._open = False
        try:
            with self._guarded():
                refused = tuple(await self._sink.deliver(totals))
        except SinkBusy:
            self._open = True
            raise
        self._open, self._logged = True, None
        return refused

    async def close(self) -> None:
        """Let go of the sink; what goes wrong then is only logged."""
        self._open = False
        try:
            with self._guarded():
                await self._sink.close()
        except SinkUnavailable as error:
            log.info("publisher.left_open", sink=self._name, reason=str(error))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        self._cut_off = True
        try:
            yield
        except SinkUnavailable:
            self._cut_off = False
            raise
        except (Exception, asyncio.CancelledError) as error:  # what one library raises must not stop the other sinks
            if isinstance(error, asyncio.CancelledError) and cancellation.by_somebody():
                raise
            said = f"{type(error).__name__}: {error}".removesuffix(": ")
            if said != self._logged:
                self._logged = said
                log.exception("publisher.broken", sink=self._name)
            raise SinkUnavailable(f"sink {self._name}: failed unexpectedly: {said}") from error
        self._cut_off = False
