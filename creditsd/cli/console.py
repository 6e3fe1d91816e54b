"""What all commands share: the settings they run with, how they run, and how they say the outcome."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
import uvloop
from rich.console import Console

from creditsd.cli.ending import complaint
from creditsd.config import log
from creditsd.config.printable import escaped, escaped_json
from creditsd.config.settings import Settings, load
from creditsd.domain.errors import CreditsdError, NotAgreed
from creditsd.domain.total import encode

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, as when the output is piped.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
UserId = Annotated[str, typer.Argument(metavar="USER_ID", help="A user's id, as in your table.", show_default=False)]

# No markup is read anywhere: what is shown was often written by somebody else.
console = Console(markup=False, emoji=False)
errors_console = Console(stderr=True, markup=False, emoji=False)


@dataclasses.dataclass(slots=True)
class Invocation:
    """What was said before the command's name."""

    config: Path | None = None

    def read(self) -> Settings:
        """Load the settings as they are now. Raises ConfigError."""
        return load(self.config)

    def settings(self) -> Settings:
        """Load the settings, and log as they say. Raises ConfigError."""
        settings = self.read()
        log.configure(settings.log)
        return settings


invocation = Invocation()


def finish(work: Coroutine[Any, Any, T], *, raising: bool = False) -> T:
    """Run on uvloop to the end; failures end the process with their line, unless `raising`."""
    gc.freeze()  # what is imported stays: no collection has to walk over it
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except CreditsdError as error:
        if raising:
            raise
        fail(error)


def agreed(work: Callable[[bool], Coroutine[Any, Any, T]], yes: bool) -> T:
    """Run what may need a person's word: given beforehand, or on a terminal asked for; else it fails and says how."""
    try:
        return finish(work(yes), raising=True)
    except NotAgreed as error:
        if not (sys.stdin.isatty() and errors_console.is_terminal):
            fail(NotAgreed(f"{error}: if that is meant, say it with --yes"))
        typer.confirm(escaped(f"{error}. Go on?"), abort=True, err=True)
    except CreditsdError as error:
        fail(error)
    return finish(work(True))


def fail(error: CreditsdError) -> NoReturn:
    """End with an error's one line and its exit code."""
    complain(str(error))
    sys.exit(error.exit_code)


def complain(reason: str) -> None:
    """Print why the command failed, in one line."""
    errors_console.print(complaint(reason), style="red", highlight=False, soft_wrap=True)


def say_json(document: Any) -> None:
    """Print one line of JSON; on a terminal with nothing in it that a terminal would obey."""
    line = encode(document)
    sys.stdout.buffer.write((escaped_json(line.decode()).encode() if console.is_terminal else line) + b"\n")
    sys.stdout.buffer.flush()


def say(line: str, *, note: bool = False) -> None:
    """Tell a person, beside whatever the command prints."""
    text = escaped(f"note: {line}" if note else line)
    errors_console.print(text, style="yellow" if note else None, highlight=False, soft_wrap=True)
