"""The commands; each asks others for its work and says the outcome."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import tomli_w
import typer

from creditsd import __version__, screen
from creditsd.admin.inspect import Inspector
from creditsd.commands import (
    Json,
    UserId,
    bench,
    console,
    deliveries,
    errors_console,
    fail,
    finish,
    forget,
    history,
    invocation,
    say,
    say_json,
    sinks,
    verify,
)
from creditsd.config.redact import redact_dsn
from creditsd.config.settings import redacted
from creditsd.domain.errors import CreditsdError
from creditsd.domain.total import Total
from creditsd.schema import install as schema

EX_SOFTWARE = 70

app = typer.Typer(
    name="creditsd",
    help="Keeps every user's total of credits current, from your table in PostgreSQL to every place that shows it.",
    epilog="New here? `creditsd demo` needs no database. With one: set CREDITSD_DSN and CREDITSD_SINKS, then `creditsd "
    "install` and `creditsd run`. Settings are CREDITSD_… in the environment, over /etc/creditsd/creditsd.toml; "
    "`creditsd config` shows those in force.",
    no_args_is_help=True,
    add_completion=False,
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


@app.command()
def demo(
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, metavar="PORT", help="Answer HTTP here.", show_default="8321, or a free one"),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="End by itself after so long.", show_default="at Ctrl-C"),
    ] = None,
) -> None:
    """Watch the whole thing work: a PostgreSQL of its own, simulated customers, and their totals as they change.

    Needs nothing but `pip install 'creditsd[demo]'`, touches no database of yours, and leaves nothing behind.
    """
    from creditsd.demo import show

    show(console, port=port, duration_seconds=duration)


@app.command()
def install(
    print_: Annotated[bool, typer.Option("--print", help="Print the SQL and change nothing.")] = False,
    role: Annotated[str, typer.Option(help="Grant a restricted role what the daemon needs.", metavar="NAME")] = "",
    reader: Annotated[
        str, typer.Option(help="Let a role (PostgREST's, Supabase's) read the own balance.", metavar="NAME")
    ] = "",
) -> None:
    """Put the schema `creditsd` and the triggers into the database.

    Repeat it after an upgrade, after changing the table's settings, or after adding partitions: it does what is
    missing, in one transaction. The application never queues for a lock of ours: it is given up and tried again.
    """
    settings = invocation.settings()
    named = {"role": role, "reader": reader}
    settings = settings.model_copy(update={key: name for key, name in named.items() if name})
    if print_:
        sys.stdout.write(finish(schema.script(settings)))
        return
    _tell(finish(schema.install(settings)), otherwise="nothing to do: everything is installed")


@app.command()
def uninstall() -> None:
    """Remove the triggers and the schema `creditsd`, with everything in it. Your table stays as it is."""
    _tell(finish(schema.uninstall(invocation.settings())), otherwise="nothing to do: creditsd is not installed")


@app.command()
def run() -> None:
    """Run the daemon: recompute what changes, and publish it to every sink.

    Run `creditsd install` once before; this installs nothing. The first start recomputes everyone and tells every
    sink. SIGTERM or Ctrl-C ends it after what is stored has arrived.
    """
    from creditsd.daemon import Daemon

    settings = invocation.settings()
    with screen.Bar(errors_console) as bar:
        finish(Daemon(settings, progress=bar.show if errors_console.is_terminal else None).run())


@app.command()
def serve() -> None:
    """Serve reads and streams over HTTP from what a daemon publishes to Redis or NATS. Needs no database.

    Run as many as there are streams for, behind a load balancer. CREDITSD_SERVE__FEED is the url of the sink; who may
    ask is set as for `run`: CREDITSD_HTTP__API_KEYS, CREDITSD_HTTP__JWT_SECRET or CREDITSD_HTTP__JWKS_URL.
    """
    from creditsd.gateway import Gateway

    finish(Gateway(invocation.settings()).run())


@app.command()
def get(user_id: UserId) -> None:
    """Print a user's total, computed now from the table, as JSON."""

    async def total() -> Total:
        async with Inspector.opened(invocation.settings(), purpose="get") as inspector:
            return await inspector.total(user_id)

    try:
        say_json({"success": True, "data": finish(total(), raising=True).document()})
    except CreditsdError as error:
        say_json({"success": False, "error": redact_dsn(str(error))})
        raise typer.Exit(error.exit_code) from None


@app.command()
def watch(
    user_ids: Annotated[
        list[str] | None, typer.Argument(metavar="USER_ID", help="Whose; nobody named: everyone's.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Show totals as they change: everyone's, or those of certain users, which are shown at once too."""

    async def show() -> None:
        seen: dict[str, Total] = {}
        async with Inspector.opened(invocation.settings(), purpose="watch") as inspector:
            async for total in inspector.watch(user_ids or []):
                if json or not console.is_terminal:
                    say_json(total.document())
                else:
                    console.print(screen.total_line(total, before=seen.get(total.user_id)))
                if len(seen) < 10_000 or total.user_id in seen:
                    seen[total.user_id] = total

    finish(show())


@app.command()
def explain(user_id: UserId, json: Json = False) -> None:
    """Say of each of a user's rows whether it counts, and why; the total; and what each sink has."""

    async def ask() -> Any:
        async with Inspector.opened(invocation.settings(), purpose="explain") as inspector:
            return await inspector.explain(user_id)

    found = finish(ask())
    if not json and console.is_terminal:
        screen.explanation(console, found)
        return
    say_json(found.document())


@app.command()
def backfill() -> None:
    """Recompute everyone. The daemon does it where one runs; otherwise it is done here, and published when one does."""

    async def ask(bar: screen.Bar) -> bool:
        async with Inspector.opened(invocation.settings(), purpose="backfill", direct=True) as inspector:
            return await inspector.backfill(bar.show)

    with screen.Bar(errors_console) as bar:
        by_daemon = finish(ask(bar))
    errors_console.print("done by the daemon" if by_daemon else "done; no daemon runs, so nothing is published yet")


@app.command()
def status(json: Json = False) -> None:
    """Show who leads, what waits, what the doorbell does, and how each sink is."""

    async def ask() -> Any:
        async with Inspector.opened(invocation.settings(), purpose="status") as inspector:
            return await inspector.status()

    found = finish(ask())
    if json or not console.is_terminal:
        say_json(dataclasses.asdict(found))
    else:
        screen.status(console, found)


app.command()(history.history)
app.command()(bench.bench)
app.command()(verify.verify)
app.command()(forget.forget)
app.add_typer(deliveries.app)
app.add_typer(sinks.app)


@app.command()
def config() -> None:
    """Print the settings in force as TOML, with every secret masked."""
    sys.stdout.write(tomli_w.dumps(redacted(invocation.settings())))


def main() -> NoReturn:
    """Run a command; every failure is one clear line and an exit code of sysexits."""
    try:
        app(standalone_mode=True)
    except CreditsdError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        structlog.get_logger().error("creditsd.crashed", exc_info=error)
        errors_console.print(
            f"creditsd: a bug: {type(error).__name__}: {redact_dsn(str(error))}", style="red", markup=False
        )
        sys.exit(EX_SOFTWARE)
    sys.exit(0)


def _tell(outcome: schema.Installed, *, otherwise: str) -> None:
    for line in outcome.done or [otherwise]:
        say(line)
    for line in outcome.notes:
        say(line, note=True)
