"""`creditsd run` where no person looks on: without the other commands and what draws on a terminal, which is 5 MiB."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path
from typing import NoReturn

import structlog
import uvloop

from creditsd.config import log, reload
from creditsd.config.printable import escaped
from creditsd.config.redact import redact_dsn
from creditsd.config.settings import Settings, load
from creditsd.domain.errors import CreditsdError

EX_SOFTWARE = 70


def run(config: Path | None) -> NoReturn:
    """Run the daemon with the settings of a file, or those of the environment alone; end as the command does."""
    try:
        _run(config)
    except CreditsdError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        structlog.get_logger().error("creditsd.crashed", exc_info=error)
        _say(f"a bug: {type(error).__name__}: {error}")
        sys.exit(EX_SOFTWARE)
    sys.exit(0)


def _run(config: Path | None) -> None:
    reload.hold_back()
    from creditsd.daemon.app import Daemon

    def read() -> Settings:
        return load(config)

    settings = read()
    log.configure(settings.log)
    with log.unblocked():
        gc.freeze()  # what is imported stays: no collection has to walk over it
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Daemon(settings, read=read).run())


def _say(line: str) -> None:
    sys.stderr.write(escaped(f"creditsd: {redact_dsn(line)}") + "\n")
