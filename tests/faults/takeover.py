"""Takes the lead away from one of two daemons, again and again, during a write load, and times the other one.

The short form is a test, the long one `python -m bench.takeover`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
import psycopg
from psycopg.conninfo import make_conninfo

from tests.acceptance.command import Running, environment, start
from tests.beside import beside
from tests.conftest import PATIENCE_SECONDS, eventually, settled
from tests.faults.another_machine import AnotherMachine
from tests.faults.load import Load
from tests.faults.truth import Told, client, wrong_among
from tests.integration.line import TERMINATE_LEADER
from tests.servers import Postgres, Valkey

Fault = Literal["stopped", "killed", "terminated", "frozen", "cut off"]
FAULTS: tuple[Fault, ...] = ("stopped", "killed", "terminated", "frozen", "cut off")
SIGNALS = {"stopped": signal.SIGTERM, "killed": signal.SIGKILL, "frozen": signal.SIGSTOP}
LONGEST_SECONDS = 90.0


@dataclass(slots=True)
class Ledger:
    """Everything that two daemons published, each below a prefix of its own: nothing hides what a deposed one says.

    `leader` is who leads, as soon as it has published something; until then `next` is who shall.
    """

    newest: dict[str, dict[str, Any]] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    heard: int = 0
    older: list[tuple[str, str, int, int]] = field(default_factory=list)
    leader: str = ""
    next: str = ""
    fault: str = ""
    deposed: list[tuple[str, str, int]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def hear(self, name: str, document: dict[str, Any]) -> None:
        """Take note of one message of one daemon."""
        user, version = document["user_id"], document["version"]
        known = self.newest.get(user)
        if known is not None and version < known["version"]:
            self.older.append((name, user, known["version"], version))
        else:
            self.newest[user] = document
        if not self.leader and name == self.next:
            self.leader = name
        if self.leader and name != self.leader:
            self.deposed.append((self.fault, user, version))
        async with self.changed:
            self.heard += 1
            self.first.setdefault(name, time.monotonic())
            self.changed.notify_all()

    async def until_heard(self, name: str) -> float:
        """Wait until a daemon has published something since `first` forgot it; return when it first did."""
        async with asyncio.timeout(LONGEST_SECONDS), self.changed:
            await self.changed.wait_for(lambda: name in self.first)
            return self.first[name]


@dataclass(slots=True)
class Place:
    """Where one of the two daemons runs, and what it is started with."""

    name: str
    machine: AnotherMachine
    env: Mapping[str, str]
    directory: Path
    daemon: Running | None = None

    @property
    def running(self) -> Running:
        """The daemon that runs there now."""
        assert self.daemon is not None
        return self.daemon

    async def begin(self) -> None:
        """Start a daemon there."""
        self.daemon = await start(self.directory, env=self.env, through=self.machine.through)

    def times(self, event: str) -> int:
        """Count how often what runs there logged something."""
        return len(self.running.logged(event))

    async def until_standing_by(self, times: int = 1) -> None:
        """Wait until it has stood by so often."""

        async def records() -> int:
            assert not self.running.ended, self.running.log()
            return self.times("daemon.stood_by")

        await eventually(records, lambda found: found >= times)

    async def end(self) -> None:
        """End what runs there, whatever state it is in."""
        if self.daemon is None:
            return
        if not self.daemon.ended:
            self.daemon.send(signal.SIGKILL)
        await self.daemon.wait()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a series of take-overs left behind: seconds by fault, and whatever should not have been."""

    seconds: Mapping[Fault, Sequence[float]]
    written: int
    published: int
    older: Sequence[tuple[str, str, int, int]]
    deposed: Sequence[tuple[str, str, int]]
    wrong: Mapping[str, tuple[Told, Told | None]]


@dataclass(slots=True)
class Takeovers:
    """Two daemons on machines of their own, one application that writes, and one fault after the other."""

    server: Postgres
    valkey: Valkey
    machines: Sequence[AnotherMachine]
    directory: Path
    ledger: Ledger = field(default_factory=Ledger)
    seconds: dict[Fault, list[float]] = field(default_factory=dict)

    async def happen(self, faults: Sequence[Fault], *, users: int, clients: int, pause_seconds: float) -> Outcome:
        """Let these happen to whoever leads, one after the other, and compare everything at the end."""
        leader, standby = (self._place(name, machine) for name, machine in zip("ab", self.machines, strict=True))
        async with self._listening():
            try:
                async with Load(self.server.dsn(), users, clients, pause_seconds) as load:
                    await leader.begin()
                    await self.ledger.until_heard(leader.name)
                    await standby.begin()
                    await standby.until_standing_by()
                    for fault in faults:
                        leader, standby = await self._take_away(fault, leader, standby)
                wrong = await settled(self._wrong, lambda found: not found)
            finally:
                await leader.end()
                await standby.end()
        ledger = self.ledger
        return Outcome(self.seconds, load.written, ledger.heard, ledger.older, ledger.deposed, wrong)

    async def _take_away(self, fault: Fault, leader: Place, standby: Place) -> tuple[Place, Place]:
        """Let one thing happen to the leader, time who leads next, and have a standby again; return both."""
        self.ledger.leader = leader.name
        await asyncio.sleep(random.uniform(0.2, 1.2))  # a moment of its own: in the middle of anything
        stood_by, led = leader.times("daemon.stood_by"), (leader.times("daemon.led"), standby.times("daemon.led"))
        self.ledger.leader, self.ledger.next, self.ledger.fault = "", standby.name, fault
        self.ledger.first.clear()
        at = time.monotonic()
        await self._let_happen(fault, leader)
        if fault == "terminated" and await self._leads_again(leader, standby, led):
            self.ledger.first.pop(leader.name, None)  # it may have been told before
            self.seconds.setdefault(fault, []).append(await self.ledger.until_heard(leader.name) - at)
            return leader, standby
        self.seconds.setdefault(fault, []).append(await self.ledger.until_heard(standby.name) - at)
        await self._bring_back(fault, leader, stood_by)
        return standby, leader

    async def _leads_again(self, leader: Place, standby: Place, led: tuple[int, int]) -> bool:
        """Wait until one of them leads anew; tell whether it is who did before."""

        async def anew() -> list[bool]:
            return [place.times("daemon.led") > before for place, before in zip((leader, standby), led, strict=True)]

        return (await settled(anew, any))[0]

    async def _let_happen(self, fault: Fault, leader: Place) -> None:
        if fault == "terminated":
            async with await psycopg.AsyncConnection.connect(self.server.dsn(), autocommit=True) as connection:
                ended = await connection.execute(TERMINATE_LEADER.encode())
                assert ended.rowcount == 1
        elif fault == "cut off":
            leader.machine.lose_packets()
        else:
            leader.running.send(SIGNALS[fault])

    async def _bring_back(self, fault: Fault, leader: Place, stood_by: int) -> None:
        if fault in ("stopped", "killed"):
            assert await leader.running.wait() == (0 if fault == "stopped" else -signal.SIGKILL), leader.running.log()
            await leader.begin()
            await leader.until_standing_by()
            return
        if fault == "frozen":
            leader.running.send(signal.SIGCONT)
        elif fault == "cut off":
            leader.machine.carry_packets()
        await leader.until_standing_by(stood_by + 1)

    async def _wrong(self) -> dict[str, tuple[Told, Told | None]]:
        return await wrong_among(self.server.dsn(), self.ledger.newest)

    def _place(self, name: str, machine: AnotherMachine) -> Place:
        sinks = [{"name": "cache", "url": f"redis://{machine.here}:{self.valkey.port}/0", "prefix": f"{name}:"}]
        dsn = make_conninfo(self.server.dsn(), host=machine.here)
        env = environment(CREDITSD_DSN=dsn, CREDITSD_SINKS=orjson.dumps(sinks).decode())
        return Place(name, machine, env, self.directory)

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        """Hear all that is published for as long as the block lasts."""
        async with client(self.valkey) as link, link.pubsub() as channels:
            await channels.psubscribe("[ab]:*")
            await channels.get_message(timeout=PATIENCE_SECONDS)  # that we are subscribed

            async def listen() -> None:
                async for message in channels.listen():
                    await self.ledger.hear(message["channel"].decode()[:1], orjson.loads(message["data"]))

            async with beside(listen()):
                yield
