"""`creditsd run`: the daemon."""

from __future__ import annotations

from creditsd.cli.console import errors_console, finish, invocation
from creditsd.cli.progress_bar import ProgressBar
from creditsd.config import log, reload
from creditsd.postgres import sql_files


def run() -> None:
    """Run the daemon: recompute what changes, and publish it to every sink.

    Run `creditsd install` once before; this installs nothing. The first start recomputes everyone and tells every
    sink. SIGTERM or Ctrl-C ends it after what is stored has arrived; SIGHUP has it read its settings and secrets anew.
    """
    reload.hold_back()
    from creditsd.daemon.app import Daemon

    sql_files.keep_all()
    settings = invocation.settings()
    with log.unblocked(), ProgressBar(errors_console) as bar:
        progress = bar.show if errors_console.is_terminal else None
        finish(Daemon(settings, progress=progress, read=invocation.read).run(), raising=True)
