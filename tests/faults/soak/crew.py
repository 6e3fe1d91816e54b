"""The daemons: real processes, each behind a proxy of its own on its way to the database."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.command import Running, start
from tests.beside import beside
from tests.conftest import settled
from tests.proxy import Proxy

STOPPED = "T"
LOOK_SECONDS = 0.5
READY_STATES = ("leading", "standby")


@dataclass(slots=True)
class Member:
    """One daemon, and what it is started with; it is expected to run unless a fault has ended it."""

    name: str
    gate: Proxy
    env: Mapping[str, str]
    directory: Path
    daemon: Running | None = None
    logs: list[Running] = field(default_factory=list)
    unfounded: set[str] = field(default_factory=set)

    @property
    def running(self) -> Running:
        """The process there is."""
        assert self.daemon is not None
        return self.daemon

    async def begin(self) -> None:
        """Start one."""
        self.daemon = await start(self.directory, env=self.env)
        self.logs.append(self.daemon)

    async def until_loaded(self) -> None:
        """Wait until it answers, whatever it says: what comes before that is Python's and the machine's."""
        daemon = self.running

        async def answers() -> bool:
            return daemon.ended or (await daemon.ask("/livez"))[0] != 0

        await settled(answers)

    async def end(self, number: signal.Signals) -> int:
        """End it by a signal, and return how it ended."""
        daemon, self.daemon = self.running, None
        try:
            return await daemon.end(number)
        except TimeoutError:
            daemon.send(signal.SIGKILL)
            return await daemon.wait()

    async def state(self) -> str:
        """Ask what it says of itself: leading, standby, …; empty where it does not answer."""
        if self.daemon is None:
            return ""
        _, said = await self.daemon.ask("/livez")
        return str(said.get("state", ""))

    async def ready(self) -> bool:
        """Ask whether it is ready."""
        return self.daemon is not None and (await self.daemon.ask("/readyz"))[0] == 200

    async def look(self) -> None:
        """Take note where it says it is ready, and that it is doing what nobody can be ready in."""
        code, said = (0, {}) if self.daemon is None else await self.daemon.ask("/readyz")
        if code == 200 and said["state"] not in READY_STATES:
            self.unfounded.add(f"daemon {self.name} said it was ready while {said['state']}")

    def complaints(self) -> list[str]:
        """What nobody expected: an end of its own, tracebacks in the log, readiness. Each is told once."""
        found = [*self.unfounded]
        self.unfounded.clear()
        if self.daemon is not None and self.daemon.ended:
            found.append(f"daemon {self.name} ended by itself: {self.daemon.log()[-1500:]}")
            self.daemon = None
        for log in self.logs:
            found += [
                f"daemon {self.name} logged {line[:1500]}" for line in log.log().splitlines() if "Traceback" in line
            ]
        self.logs = [self.daemon] if self.daemon is not None else []
        return found


@dataclass(slots=True)
class Crew:
    """All of them."""

    members: Sequence[Member]

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Ask them now and then, for as long as the block lasts, whether they are ready."""
        async with beside(self._watch()):
            yield

    def lost(self) -> bool:
        """Whether one has ended by itself."""
        return any(member.daemon is not None and member.daemon.ended for member in self.members)

    async def leader(self) -> Member:
        """Return who leads, or the first one where nobody does just now."""
        states = await asyncio.gather(*(member.state() for member in self.members))
        return next(
            (member for member, state in zip(self.members, states, strict=True) if state == "leading"), self.members[0]
        )

    async def others(self) -> list[Member]:
        """Return who does not lead."""
        leader = await self.leader()
        return [member for member in self.members if member is not leader]

    async def any_ready(self) -> bool:
        """Ask whether any says it is ready."""
        return any(await asyncio.gather(*(member.ready() for member in self.members)))

    async def until_ready(self, seconds: float) -> bool:
        """Wait until each says it is ready; tell whether it did."""

        async def ready() -> bool:
            return all(await asyncio.gather(*(member.ready() for member in self.members)))

        return await settled(ready, bool, seconds)

    async def _watch(self) -> None:
        while True:
            await asyncio.gather(*(member.look() for member in self.members))
            await asyncio.sleep(LOOK_SECONDS)

    async def end(self) -> None:
        """End them all at once, whatever state they are in."""
        for member in self.members:
            if member.daemon is not None and not member.daemon.ended:
                member.daemon.send(signal.SIGCONT)
                await member.end(signal.SIGKILL)
