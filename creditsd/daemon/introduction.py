"""What a daemon says of itself once its start has succeeded; a start that fails says one line, and why."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from creditsd import __version__
from creditsd.config.redact import redact_dsn
from creditsd.config.settings import Settings
from creditsd.config.sources import Origin

log = structlog.get_logger()


def introduce(settings: Settings, sinks: Sequence[str]) -> None:
    """Log what runs, for what, and which settings of the file something else overrides."""
    origin = settings.origin
    log.info(
        "daemon.started",
        version=__version__,
        config=str(origin.file) if origin.file else "no file",
        dsn=redact_dsn(settings.dsn) or "libpq's own variables",
        table=settings.source.table,
        sinks=list(sinks),
        http=settings.http.listen or "off",
    )
    note_overrides(origin)
    if not sinks:
        log.warning("daemon.told_nobody", hint="set CREDITSD_SINKS, or [[sinks]] in the file, to publish totals")


def note_overrides(origin: Origin) -> None:
    """Log which settings of the file something else overrides."""
    for above, below in origin.overrides:
        say = log.warning if below.endswith("sinks") else log.info
        say("settings.overridden", used=above, unused=below)
