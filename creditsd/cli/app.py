"""The commands; each asks others for its work and says the outcome."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from creditsd import __version__
from creditsd.cli.console import complain, console, invocation
from creditsd.cli.ending import finished

COMMANDS = (
    "demo",
    "install",
    "uninstall",
    "run",
    "serve",
    "get",
    "watch",
    "explain",
    "backfill",
    "status",
    "doctor",
    "healthcheck",
    "history",
    "bench",
    "verify",
    "forget",
    "config",
    "deliveries",
    "sinks",
)
"""Each is a module of its own beside this one: with a function of that name, or an `app` of several commands."""


def command_line(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the command line with these commands."""
    app = typer.Typer(
        name="creditsd",
        help="Keeps every user's total of credits current, from your table in PostgreSQL to every place that shows it.",
        epilog="New here? `creditsd demo` needs no database. With one: set CREDITSD_DSN and CREDITSD_SINKS, then "
        "`creditsd install` and `creditsd run`. Settings are CREDITSD_… in the environment, over "
        "/etc/creditsd/creditsd.toml; `creditsd config` shows those in force.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(common)
    for name in names:
        module = import_module(f"creditsd.cli.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app)
        else:
            app.command()(getattr(module, name))
    return app


def asked(arguments: Sequence[str]) -> Sequence[str]:
    """Return the command that a command line names, for it alone is to be imported; all of them where it names none."""
    words = iter(arguments)
    for word in words:
        if word in {"-c", "--config"}:
            next(words, None)
        elif not word.startswith("-"):
            return (word,) if word in COMMANDS else COMMANDS
    return COMMANDS


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"creditsd {__version__}")
        raise typer.Exit


def common(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", help="The TOML file with the settings; CREDITSD_CONFIG names it too."
        ),
    ] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Take what is common to all commands."""
    invocation.config = config


def main() -> NoReturn:
    """Run a command; every failure is one clear line and an exit code of sysexits."""
    finished(command_line(asked(sys.argv[1:])), complain)
