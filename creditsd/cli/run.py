"""`creditsd run`: the daemon."""

from __future__ import annotations

import structlog

from creditsd import __version__
from creditsd.cli import render
from creditsd.cli.console import errors_console, finish, invocation
from creditsd.config.redact import redact_dsn
from creditsd.config.settings import Settings

log = structlog.get_logger()


def run() -> None:
    """Run the daemon: recompute what changes, and publish it to every sink.

    Run `creditsd install` once before; this installs nothing. The first start recomputes everyone and tells every
    sink. SIGTERM or Ctrl-C ends it after what is stored has arrived.
    """
    from creditsd.daemon.app import Daemon

    settings = invocation.settings()
    _introduce(settings)
    with render.Bar(errors_console) as bar:
        finish(Daemon(settings, progress=bar.show if errors_console.is_terminal else None).run())


def _introduce(settings: Settings) -> None:
    """Say what runs, for what, and which settings of the file something else overrides."""
    origin = settings.origin
    log.info(
        "daemon.started",
        version=__version__,
        config=str(origin.file) if origin.file else "no file",
        dsn=redact_dsn(settings.dsn) or "libpq's own variables",
        table=settings.source.table,
        sinks=settings.sink_names,
        http=settings.http.listen or "off",
    )
    for above, below in origin.overrides:
        say = log.warning if below.endswith("sinks") else log.info
        say("settings.overridden", used=above, unused=below)
    if not settings.sinks:
        log.warning("daemon.told_nobody", hint="set CREDITSD_SINKS, or [[sinks]] in the file, to publish totals")
