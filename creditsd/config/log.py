"""Logging: one stream of structured events to standard error, without a secret in it."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager
from typing import Any, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from creditsd.config.log_writer import LogWriter
from creditsd.config.printable import escaped
from creditsd.config.redact import is_secret_log_key, redact
from creditsd.config.settings import LogSettings, journal_stream

_writer = LogWriter()
_PRIORITIES = {"critical": 2, "error": 3, "exception": 3, "warning": 4, "info": 6, "debug": 7}
"""What syslog(3) calls our levels."""


def configure(settings: LogSettings) -> None:
    """Send our events, and the warnings of libraries, to standard error; may be called again.

    A terminal gets coloured lines for people, everything else one JSON object a line, journald priorities besides.
    """
    stream = cast("TextIO", _writer)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    enrich: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _time_stamper(settings, stream),
        structlog.processors.format_exc_info,
        redact_secrets,  # after the traceback became text: a driver may quote the DSN in there
    ]
    render = _renderer(settings, stream)
    if to_journal():
        render = _prioritised(render)
    structlog.configure(
        processors=[*enrich, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,  # tests capture events, and the demo configures twice
    )
    _route_libraries(stream, max(level, logging.WARNING), enrich, render)


def to_journal() -> bool:
    """Whether standard error is journald's own socket, as systemd says: it may have been sent elsewhere since."""
    try:
        error = os.fstat(2)
    except OSError:
        return False
    return journal_stream() == f"{error.st_dev}:{error.st_ino}"


def unblocked() -> AbstractContextManager[None]:
    """Log in the background while the block lasts: whoever does not read it must not stop what is logged of."""
    return _writer.threaded(lambda lines: structlog.get_logger().warning("log.dropped", lines=lines))


def redact_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Redact every value whose key says secret, and every password inside any other text."""
    return {key: redact(key, value, is_secret_log_key) for key, value in event.items()}


def _for_people(settings: LogSettings, stream: TextIO) -> bool:
    return settings.format == "console" or (settings.format == "auto" and stream.isatty())


def _time_stamper(settings: LogSettings, stream: TextIO) -> Processor:
    if _for_people(settings, stream):
        return structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
    return structlog.processors.TimeStamper(fmt="iso", utc=True)


def _renderer(settings: LogSettings, stream: TextIO) -> Processor:
    if _for_people(settings, stream):
        return _escaping(structlog.dev.ConsoleRenderer(colors=stream.isatty()))
    return structlog.processors.JSONRenderer(serializer=_to_json)


def _escaping(render: Processor) -> Processor:
    """Let a terminal obey nothing that somebody else has written; a traceback keeps its lines."""

    def rendered(logger: WrappedLogger, method: str, event: EventDict) -> Any:
        shown = {key: escaped(value) if isinstance(value, str) else value for key, value in event.items()}
        if isinstance(event.get("exception"), str):
            shown["exception"] = "\n".join(map(escaped, event["exception"].split("\n")))
        return render(logger, method, shown)

    return rendered


def _prioritised(render: Processor) -> Processor:
    """Begin each line with its priority as sd-daemon(3) has it, for `journalctl --priority`."""

    def rendered(logger: WrappedLogger, method: str, event: EventDict) -> str:
        level = event.get("level", method)
        return with_priority(level, str(render(logger, method, event)))

    return rendered


def with_priority(level: str, text: str) -> str:
    """Begin each line of a text with the priority of its level."""
    return "\n".join(f"<{_PRIORITIES.get(level, 6)}>{line}" for line in text.split("\n"))


def _to_json(event: EventDict, **_options: Any) -> str:
    event = {"event": event.pop("event"), **event}
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z).decode()


def _route_libraries(stream: TextIO, level: int, enrich: list[Processor], render: Processor) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *enrich],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact_secrets, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
