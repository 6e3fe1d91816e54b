"""How a command ends: with its exit code, and where it failed with one line that says why."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

import structlog

from creditsd.config import log
from creditsd.config.printable import escaped
from creditsd.config.redact import redact_dsn
from creditsd.domain.errors import CreditsdError

EX_SOFTWARE = 70


def finished(command: Callable[[], object], complain: Callable[[str], None]) -> NoReturn:
    """Run a command and end the process; of a failure the reason is told, and the exit code is one of sysexits."""
    try:
        command()
    except CreditsdError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        structlog.get_logger().error("creditsd.crashed", exc_info=error)
        complain(f"a bug: {type(error).__name__}: {error}")
        sys.exit(EX_SOFTWARE)
    sys.exit(0)


def complaint(reason: str) -> str:
    """Return the line that says why a command failed; it tells journald that it is an error."""
    line = escaped(f"creditsd: {redact_dsn(reason)}")
    return log.with_priority("error", line) if log.to_journal() else line
