"""Traces each drain and each delivery, and sends the spans to a collector by OTLP; all of OpenTelemetry is here."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from creditsd import __version__
from creditsd.config.redact import redact_dsn
from creditsd.config.tracing_settings import TracingSettings
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total

log = structlog.get_logger()

KNOWN_DRAINS = 1024
CLOSE_SECONDS = 2.0
SAY_SECONDS = 60.0

_PROPAGATOR = TraceContextTextMapPropagator()


class Traces:
    """Sends spans while it is open, from a thread of its own: whoever is traced waits for nothing.

    Spans of what a collector does not take are dropped, the oldest first.
    """

    def __init__(self, settings: TracingSettings) -> None:
        self._exporter = OTLPSpanExporter(endpoint=settings.otlp_url)
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(settings.sample_ratio),
            resource=_resource(),
            shutdown_on_exit=False,  # it is closed in a bounded time, or not at all
        )
        self._tracer = self._provider.get_tracer("creditsd", __version__)
        self._troubles = _Troubles()
        self._drains: deque[tuple[int, int, SpanContext]] = deque(maxlen=KNOWN_DRAINS)  # first and last version

    async def __aenter__(self) -> Self:
        self._troubles.hear()
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Send what is left, for `CLOSE_SECONDS` at most."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_SECONDS)
        if closing.is_alive():  # it complains until it ends with the process
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the library's own
        else:
            self._troubles.leave()

    def drained(self, *, changes: int, users: int, totals: Sequence[Total], seconds: float) -> None:
        """Trace a drain that has just ended and took so long; what it stored is known by it from now on."""
        ended = time.time_ns()
        attributes = {"creditsd.changes": changes, "creditsd.users": users, "creditsd.totals": len(totals)}
        began = ended - int(seconds * 1_000_000_000)
        span = self._tracer.start_span("creditsd.drain", attributes=attributes, start_time=began)
        span.end(ended)
        if totals:
            self._drains.append((totals[0].version, totals[-1].version, span.get_span_context()))

    @contextmanager
    def delivery(self, sink: str, totals: Sequence[Total]) -> Iterator[Delivery]:
        """Trace a delivery while the block lasts, below the drain that stored its newest total where that is known."""
        drain = self._drain_of(totals[-1].version)
        above = None if drain is None else set_span_in_context(NonRecordingSpan(drain))
        attributes: dict[str, str | int] = {"creditsd.sink": sink, "creditsd.totals": len(totals)}
        span = self._tracer.start_span("creditsd.deliver", above, SpanKind.PRODUCER, attributes)
        try:
            yield Delivery(span)
        except SinkUnavailable as error:
            span.set_status(Status(StatusCode.ERROR, redact_dsn(str(error))))
            raise
        finally:
            span.end()

    def _drain_of(self, version: int) -> SpanContext | None:
        for first, last, drain in reversed(self._drains):
            if version > last:
                return None
            if version >= first:
                return drain
        return None


class Delivery:
    """The span of one delivery."""

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def headers(self) -> Mapping[str, str]:
        """The span as W3C Trace Context has it."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, set_span_in_context(self._span))
        return carrier

    def settled(self, refused: int, arrived: Sequence[Total]) -> None:
        """Note how many were refused, and how long the oldest of what has arrived took, as the metric has it."""
        self._span.set_attribute("creditsd.refused", refused)
        if arrived:
            seconds = max(0.0, time.time() - arrived[0].version / 1_000_000)
            self._span.set_attribute("creditsd.commit_to_publish_seconds", seconds)


class _Troubles(logging.Handler):
    """Says now and then what the library complains of, in one line: its own come with every try, and a traceback."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._quiet_until = 0.0
        self._library = logging.getLogger("opentelemetry")

    def hear(self) -> None:
        """Take the library's lines in place of the root logger."""
        self._library.addHandler(self)
        self._library.propagate = False

    def leave(self) -> None:
        """Give them back, unless another one of us hears them."""
        self._library.removeHandler(self)
        self._library.propagate = not self._library.handlers

    def emit(self, record: logging.LogRecord) -> None:
        """Log the first line of a record, unless another one was logged within `SAY_SECONDS`."""
        if (now := time.monotonic()) >= self._quiet_until:
            self._quiet_until = now + SAY_SECONDS
            reason = next(iter(record.getMessage().splitlines()), "")
            hint = "deliveries go on, and spans may be lost; is tracing.otlp_url right, and the collector up?"
            log.warning("tracing.troubled", reason=reason, hint=hint)


def _resource() -> Resource:
    """Return what the spans are said to be of; the library's own variables of the environment come first."""
    ours = Resource.create({"service.version": __version__})
    named = Resource({"service.name": "creditsd"}).merge(OTELResourceDetector().detect())
    return ours.merge(named)
