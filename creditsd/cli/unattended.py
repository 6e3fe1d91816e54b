"""`creditsd run` where no person looks on: without the other commands and what draws on a terminal, which is 5 MiB."""

from __future__ import annotations

import asyncio
import gc
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn

import uvloop

from creditsd.cli.ending import complaint, finished
from creditsd.config import log, reload
from creditsd.config.settings import load
from creditsd.postgres import sql_files


def run(config: Path | None) -> NoReturn:
    """Run the daemon with the settings of a file, or those of the environment alone; end as the command does."""
    finished(partial(_run, config), _complain)


def _run(config: Path | None) -> None:
    reload.hold_back()
    from creditsd.daemon.app import Daemon

    sql_files.keep_all()
    read = partial(load, config)
    settings = read()
    log.configure(settings.log)
    with log.unblocked():
        gc.freeze()  # what is imported stays: no collection has to walk over it
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Daemon(settings, read=read).run())


def _complain(reason: str) -> None:
    sys.stderr.write(complaint(reason) + "\n")
