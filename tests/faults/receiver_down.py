"""Takes a webhook's receiver away during a load, or has it answer 500: in tests, at length `bench.receiver_down`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import psycopg
from aiohttp import web

from tests.acceptance.command import running
from tests.conftest import eventually, settled
from tests.faults.load import Load
from tests.faults.truth import Told, wrong_among
from tests.servers import free_port

SECRET = "whsec_dGhpcnR5LXR3byBieXRlcyBvZiBhIHRlc3QncyBrZXk="


@dataclass(slots=True)
class Receiver:
    """An endpoint that keeps, as docs/sinks.md asks, the total of the higher version, and counts what comes."""

    port: int = field(default_factory=free_port)
    status: HTTPStatus = HTTPStatus.NO_CONTENT
    newest: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: int = 0
    late: int = 0
    found_back: int = 0
    _gone_until: int = 0
    _found_at: int | None = 0
    _newest_version: Callable[[], Awaitable[int]] | None = None
    _runner: web.AppRunner | None = None

    @property
    def sinks(self) -> str:
        """The setting that has totals sent here."""
        url = f"webhook+http://127.0.0.1:{self.port}/hooks/credits"
        return json.dumps([{"name": "hook", "url": url, "secret": SECRET, "allow_cidrs": ["127.0.0.1"]}])

    async def come(self, newest_version: Callable[[], Awaitable[int]] | None = None) -> None:
        """Listen; count from now on what was stored before that, and before the first request came."""
        self._newest_version = newest_version
        self._gone_until = await newest_version() if newest_version else 0
        self._found_at = None if newest_version else 0
        app = web.Application()
        app.router.add_post("/hooks/credits", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def go(self) -> None:
        """Break every connection, and refuse new ones."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        total = orjson.loads(await request.read())["data"]
        newest_version, self._newest_version = self._newest_version, None
        if newest_version is not None:
            self._found_at = await newest_version()
        self.requests += 1
        if self.status != HTTPStatus.NO_CONTENT:
            return web.Response(status=self.status, text="out of order")
        self.late += total["version"] <= self._gone_until
        self.found_back += self._found_at is None or total["version"] <= self._found_at
        held = self.newest.get(total["user_id"])
        if held is None or held["version"] < total["version"]:
            self.newest[total["user_id"]] = total
        return web.Response(status=HTTPStatus.NO_CONTENT)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the absence cost: the requests for what was stored until the return, and until the first request after it.

    The former can be no more than there are users; the latter a few more, stored while the first page is on its way.
    """

    users: int
    seconds: float
    away_seconds: float
    written: int
    written_meanwhile: int
    requests: int
    late: int
    found_back: int
    caught_up_seconds: float
    wrong: Mapping[str, tuple[Told, Told | None]]


@dataclass(frozen=True, slots=True)
class Malfunction:
    """What it cost that the receiver answered 500 to everyone for a while, and what was told too early of its end."""

    requests: int
    written: int
    recovered_meanwhile: int
    recovered: int
    right_again_seconds: float
    wrong: Mapping[str, tuple[Told, Told | None]]


@dataclass(frozen=True, slots=True)
class Absence:
    """A line whose only receiver is gone for the middle third of a load."""

    directory: Path
    env: Mapping[str, str]
    dsn: str

    async def happen(self, *, seconds: float, users: int, clients: int, pause_seconds: float) -> Outcome:
        """Write for so long, and wait at its end until the receiver holds the truth of everyone."""
        receiver = Receiver()
        await receiver.come()
        try:
            env = {**self.env, "CREDITSD_SINKS": receiver.sinks}
            async with running(self.directory, env=env) as daemon:
                await daemon.until_ready()
                assert await self._wrong_at_last(receiver) == {}
                begun = time.monotonic()
                async with Load(self.dsn, users, clients, pause_seconds) as load:
                    await asyncio.sleep(seconds / 3)
                    await receiver.go()
                    before, left = load.written, time.monotonic()
                    await asyncio.sleep(seconds / 3)
                    await eventually(load.count, lambda written: written > before + 3 * users, seconds=60)
                    meanwhile, away = load.written - before, time.monotonic() - left
                    await receiver.come(self._newest_version)
                    await asyncio.sleep(seconds / 3)
                ended = time.monotonic()
                wrong = await self._wrong_at_last(receiver)
                assert not daemon.ended, daemon.log()
                return Outcome(
                    users=users,
                    seconds=ended - begun,
                    away_seconds=away,
                    written=load.written,
                    written_meanwhile=meanwhile,
                    requests=receiver.requests,
                    late=receiver.late,
                    found_back=receiver.found_back,
                    caught_up_seconds=time.monotonic() - ended,
                    wrong=wrong,
                )
        finally:
            await receiver.go()

    async def malfunction(self, *, seconds: float, users: int, clients: int, pause_seconds: float) -> Malfunction:
        """Have the receiver answer 500 to everyone for so long, under a load that ends when it is well again."""
        receiver = Receiver()
        await receiver.come()
        try:
            async with running(self.directory, env={**self.env, "CREDITSD_SINKS": receiver.sinks}) as daemon:
                await daemon.until_ready()
                assert await self._wrong_at_last(receiver) == {}
                async with Load(self.dsn, users, clients, pause_seconds) as load:
                    await eventually(load.count, lambda written: written > users)
                    receiver.status = HTTPStatus.INTERNAL_SERVER_ERROR
                    before, written = receiver.requests, load.written
                    await asyncio.sleep(seconds)
                    await eventually(load.count, lambda count: count > written + users)
                    requests, meanwhile = receiver.requests - before, load.written - written
                    early = len(daemon.logged("publisher.recovered"))
                    receiver.status = HTTPStatus.NO_CONTENT
                    back = time.monotonic()
                wrong = await self._wrong_at_last(receiver)
                assert not daemon.ended, daemon.log()
                return Malfunction(
                    requests=requests,
                    written=meanwhile,
                    recovered_meanwhile=early,
                    recovered=len(daemon.logged("publisher.recovered")),
                    right_again_seconds=time.monotonic() - back,
                    wrong=wrong,
                )
        finally:
            await receiver.go()

    async def _wrong_at_last(self, receiver: Receiver) -> Mapping[str, tuple[Told, Told | None]]:
        return await settled(lambda: wrong_among(self.dsn, receiver.newest), lambda wrong: not wrong, seconds=60)

    async def _newest_version(self) -> int:
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            cursor = await connection.execute("SELECT max(version) FROM creditsd.balances")
            ((version,),) = await cursor.fetchall()
            return int(version)
