"""The whole line in one terminal: a PostgreSQL, an application at work, the daemon, and the totals as they change."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Coroutine, MutableMapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvloop
from rich.console import Console

from creditsd.config import log
from creditsd.config.http_settings import HttpSettings
from creditsd.config.settings import LogSettings, Settings
from creditsd.config.source_settings import SourceSettings
from creditsd.daemon.app import Daemon
from creditsd.demo.board import Board
from creditsd.demo.commits import Commits
from creditsd.demo.kinds import Kind
from creditsd.demo.lines import Lines
from creditsd.demo.mail import Mail
from creditsd.demo.people import Person, population
from creditsd.demo.picture import Invitation, Picture
from creditsd.demo.server import DemoServer
from creditsd.demo.shop import BESIDE, Shop
from creditsd.demo.traffic import Traffic
from creditsd.domain.errors import ConfigError, ungrouped
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, connected, row
from creditsd.schema import install as schema

HOST = "127.0.0.1"
DEFAULT_PORT = 8321


class Demo:
    """Composes the scene and plays it until Ctrl-C, or for some seconds."""

    def __init__(
        self,
        console: Console,
        server: DemoServer,
        places: Sequence[tuple[Kind, socket.socket]],
        *,
        duration_seconds: float | None,
    ) -> None:
        self._console = console
        self._server = server
        self._places = places
        self._duration_seconds = duration_seconds
        self._people = population()

    async def play(self) -> None:
        """Set the stage, run the daemons among the traffic, and end everything in order."""
        async with AsyncExitStack() as stack:
            application, observer, till = [
                await stack.enter_async_context(connected(self._server.dsn, purpose=f"demo {purpose}"))
                for purpose in ("application", "observer", "shop")
            ]
            settings = [self._settings(kind, place) for kind, place in self._places]
            await furnish(application, self._people)
            for each in settings:
                await schema.install(each)
            commits = Commits(observer)
            traffic = Traffic(application, self._people, commits)
            shop = Shop(till, self._people, settings[0].http.jwt_secret)
            await self._perform(settings, commits, traffic, shop, f"PostgreSQL {await _version(observer)}")

    def _settings(self, kind: Kind, place: socket.socket) -> Settings:
        http = HttpSettings(
            listen=f"{HOST}:{_port(place)}",
            operator_keys=[secrets.token_urlsafe(12)],
            jwt_secret=secrets.token_urlsafe(32),
        )
        return Settings(dsn=self._server.dsn, schema=kind.schema, source=SourceSettings(where=kind.where), http=http)

    async def _perform(
        self, settings: Sequence[Settings], commits: Commits, traffic: Traffic, shop: Shop, title: str
    ) -> None:
        daemons: list[Daemon] = []
        boards: list[Board] = []
        names = {str(person.user_id): person.name for person in self._people}
        lines = Lines(on_deaf=lambda: _stop(daemons))
        kinds = [kind.name for kind, _ in self._places]
        pages = [f"http://{each.http.listen}/#key={each.http.operator_keys[0]}" for each in settings]
        picture = Picture(self._console, title, self._invitation(pages), kinds) if self._console.is_terminal else None
        for number, (kind, each) in enumerate(zip(kinds, settings, strict=True)):
            panel = picture.panels[number] if picture else None
            announce = panel.announce if panel else partial(lines.announce, kind=kind)
            board = Board(names, commits, announce)
            first: dict[str, Any] = {} if number else {"parts": [shop], "beside": replace(BESIDE, names=names)}
            daemon = Daemon(each, extra=[("screen", board), ("mail", Mail())], **first)
            boards.append(board)
            daemons.append(daemon)
            if panel:
                panel.show(board, daemon)
        beside: list[Coroutine[Any, Any, None]] = [self._work(daemons, boards, traffic)]
        opened = "\n".join(f"Open {page}" for page in pages)
        if picture:
            self._console.print(opened, soft_wrap=True, highlight=False)  # stays when the picture is gone
            beside.append(picture.run())
        else:
            lines.write(f"{title}\n{self._server.dsn}\n{opened}")
        for _, place in self._places:
            place.close()
        await _together(daemons, beside)
        for kind, board in zip(kinds, boards, strict=True):
            lines.write(f"{kind}: {_summary(board)}" if kind else _summary(board))
        if lines.deaf:
            raise BrokenPipeError

    async def _work(self, daemons: Sequence[Daemon], boards: Sequence[Board], traffic: Traffic) -> None:
        """Let the application work once everyone has a first total."""
        for board in boards:
            await board.told.wait()
        try:
            async with asyncio.timeout(self._duration_seconds):
                await traffic.run()
        except TimeoutError:
            _stop(daemons)

    def _invitation(self, pages: Sequence[str]) -> Invitation:
        psql = "psql" if shutil.which("psql") else str(self._server.binaries / "psql")
        return Invitation(dsn=self._server.dsn, psql=psql, creditsd=_own_command(), pages=pages)


def show(console: Console, *, port: int | None, duration_seconds: float | None, kinds: Sequence[Kind]) -> None:
    """Show the demo, an installation for each kind, and clean up after it.

    Raises ConfigError where its PostgreSQL is not installed, or the port that was asked for is taken.
    """
    server = DemoServer()
    _keep_quiet(terminal=console.is_terminal)
    try:
        with ExitStack() as stack:
            place = stack.enter_context(_reserved(port))
            others = [stack.enter_context(_reserved(0)) for _ in kinds[1:]]
            if port is None and _port(place) != DEFAULT_PORT:
                console.print(f"port {DEFAULT_PORT} is taken: this demo answers on {_port(place)}", style="yellow")
            with console.status("starting a PostgreSQL of the demo's own"):
                stack.enter_context(server)
            places = list(zip(kinds, [place, *others], strict=True))
            demo = Demo(console, server, places, duration_seconds=duration_seconds)
            stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop)).run(demo.play())
    except KeyboardInterrupt:  # before the daemon had begun to listen for it
        pass
    finally:
        log.configure(LogSettings())


async def _together(daemons: Sequence[Daemon], beside: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run the daemons until the first ends, end the rest, and run the others for as long."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _stop, daemons)  # the terminal was closed
    with ungrouped():
        async with asyncio.TaskGroup() as tasks:
            lines = [tasks.create_task(each.run()) for each in daemons]
            others = [tasks.create_task(each) for each in beside]
            await asyncio.wait(lines, return_when=asyncio.FIRST_COMPLETED)
            _stop(daemons)  # Ctrl-C reaches the one that began last
            await asyncio.wait(lines)
            for other in others:
                other.cancel()


def _stop(daemons: Sequence[Daemon]) -> None:
    for each in daemons:
        each.stop()


async def furnish(application: Connection, people: Sequence[Person]) -> None:
    """Make the tables and fill them, as an application does that has been there for a while."""
    await application.execute(sql_files.sql("demo/tables"))
    async with application.transaction():
        for person in people:
            user_id = person.user_id
            await row(application, sql_files.sql("demo/add_user"), {"user_id": user_id, "name": person.name})
            for purchase in person.purchases:
                await row(application, sql_files.sql("demo/add_row"), {"user_id": user_id, **asdict(purchase)})


async def _version(connection: Connection) -> str:
    found = await row(connection, sql_files.sql("demo/server_version"))
    assert found is not None
    return str(found[0]).split()[0]


def _reserved(wanted: int | None) -> socket.socket:
    """Listen on the wanted port; without a wish on the usual one, or any where that is taken.

    Kept until the daemon listens itself: many seconds lie between, and another demo may start.
    """
    reason: str | None = None
    for port in (wanted,) if wanted is not None else (DEFAULT_PORT, 0):
        place = socket.socket()
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            place.bind((HOST, port))
            place.listen()
        except OSError as error:
            place.close()
            reason = error.strerror or str(error)
        else:
            return place
    raise ConfigError(f"cannot listen on {HOST}:{wanted} ({reason}): name another --port, or leave it out")


def _port(place: socket.socket) -> int:
    return int(place.getsockname()[1])


def _keep_quiet(*, terminal: bool) -> None:
    """Leave the terminal to the picture; where there is none, errors go to standard error as ever."""
    log.configure(LogSettings(level="error"))
    if terminal:
        structlog.configure(processors=[_drop])
        logging.getLogger().handlers[:] = [logging.NullHandler()]


def _drop(_logger: object, _method: str, _event: MutableMapping[str, Any]) -> str:
    raise structlog.DropEvent


def _own_command() -> str:
    """Say how this very command is called from here."""
    if shutil.which("creditsd"):
        return "creditsd"
    path = Path(sys.argv[0]).absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _summary(board: Board) -> str:
    causes = ", ".join(f"{count} by {cause}" for cause, count in sorted(board.causes.items()))
    median = board.percentile(50)
    latency = "" if median is None else f"; half of them within {median:.1f} ms of their commit"
    return f"{board.arrived} totals of {board.users} users arrived ({causes}){latency}."
