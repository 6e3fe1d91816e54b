"""The commands; each asks others for its work and says the outcome."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from creditsd import __version__
from creditsd.cli import (
    backfill,
    bench,
    config,
    deliveries,
    demo,
    doctor,
    explain,
    forget,
    get,
    healthcheck,
    history,
    install,
    run,
    serve,
    sinks,
    status,
    uninstall,
    verify,
    watch,
)
from creditsd.cli.console import complain, console, invocation
from creditsd.cli.ending import finished

app = typer.Typer(
    name="creditsd",
    help="Keeps every user's total of credits current, from your table in PostgreSQL to every place that shows it.",
    epilog="New here? `creditsd demo` needs no database. With one: set CREDITSD_DSN and CREDITSD_SINKS, then `creditsd "
    "install` and `creditsd run`. Settings are CREDITSD_… in the environment, over /etc/creditsd/creditsd.toml; "
    "`creditsd config` shows those in force.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"creditsd {__version__}")
        raise typer.Exit


@app.callback()
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


for command in (
    demo.demo,
    install.install,
    uninstall.uninstall,
    run.run,
    serve.serve,
    get.get,
    watch.watch,
    explain.explain,
    backfill.backfill,
    status.status,
    doctor.doctor,
    healthcheck.healthcheck,
    history.history,
    bench.bench,
    verify.verify,
    forget.forget,
    config.config,
):
    app.command()(command)
app.add_typer(deliveries.app)
app.add_typer(sinks.app)


def main() -> NoReturn:
    """Run a command; every failure is one clear line and an exit code of sysexits."""
    finished(app, complain)
