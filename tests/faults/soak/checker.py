"""Compares what everyone was told with the truth, at calm and for all the time before it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import nats.errors
import psycopg
import redis.exceptions

from tests.conftest import settled
from tests.faults.soak.heard import Heard
from tests.faults.soak.ledger import SLACK_SECONDS, Reading, read
from tests.faults.soak.rule import NOTHING, State, state
from tests.faults.soak.world import World

LONGEST_RECOVERY_SECONDS = 120.0
ON_ITS_WAY_SECONDS = 15.0
LONGEST_WRONG_AND_READY_SECONDS = 60.0
EVERY = ("events", "steps")
FORGETFUL = ("Redis flushed", "Redis killed", "Redis without memory", "Redis read-only")
"""Where a key may not hold what its channel has said."""
CLOCK_SECONDS = 0.1
LASTING_SECONDS = 2.0
"""How long a total that time has made must stand to be looked for: one that a write replaces at once is told or not."""

STARTED = "SELECT pg_postmaster_start_time()::text"
STEPS = "SELECT user_id::text, version FROM creditsd.history WHERE version > {since}"


@dataclass(slots=True)
class Checker:
    """Judges one world, calm after calm. `last` names who was wrong when last anybody was."""

    world: World
    last: set[str] = field(default_factory=set)
    is_ready_while_wrong: bool = False
    _since: int = 0
    _reading: Reading = field(default_factory=dict)
    _started: str = ""

    async def begin(self) -> None:
        """Put down how everyone is before the first write."""
        ((self._started,),) = await self.world.run(STARTED)
        async with self.world.connected("checker") as connection:
            self.world.ledger.begin_anew(await read(connection))

    async def recovery(self) -> tuple[float, list[str]]:
        """Wait until everyone is told the truth; return the seconds, and who is not where they never are."""
        begun, self.last, self.is_ready_while_wrong = time.monotonic(), set(), False

        async def look() -> list[str]:
            found = await self._wrong()
            if found and time.monotonic() - begun > LONGEST_WRONG_AND_READY_SECONDS:
                self.is_ready_while_wrong |= await self.world.crew.any_ready()
            return found

        wrong = await settled(look, lambda found: not found or self.world.crew.lost(), LONGEST_RECOVERY_SECONDS)
        return time.monotonic() - begun, wrong

    async def anomalies(self, after: str, *, held_up: bool) -> list[str]:
        """Judge all that was told since the last time, and begin anew from here.

        `after` names what has happened. `held_up`: requests of webhooks may have been on their way for so long that
        they were overtaken.
        """
        now = max((entry.at for entry in self._reading.values()), default=time.time()) + SLACK_SECONDS
        ledger = self.world.ledger
        crashed = await self._crashed()
        found = self._told_again(crashed=crashed, forgetful=any(kind in after for kind in FORGETFUL))
        for consumer in (*self.world.consumers, self.world.cache.heard):
            never = consumer.never_true(lambda user: ledger.states(user, now))
            found += [f"{consumer.name}: {text}" for text in never]
            if not (held_up and consumer.name in ("hook", "steps")):
                found += [
                    f"{consumer.name}: {user} was told version {version} after {higher}"
                    for user, higher, version in consumer.late
                ]
        if self.world.shape.history:
            found += await self._steps_missed()
            found += await self._alerts_wrong(crashed=crashed)
        found += self.world.application.tally.failures
        self.world.application.tally.failures.clear()
        for member in self.world.crew.members:
            found += member.complaints()
        judged = {user: document["version"] for user, document in self.world.cache.keys.newest.items()}
        for consumer in (*self.world.consumers, self.world.cache.heard):
            consumer.begin_anew(judged)
        ledger.begin_anew(self._reading)
        return found

    def lateness(self) -> list[float]:
        """How many seconds after the end of a plan its user was told so, for each that ended since the last time."""
        heard, now = self.world.cache.heard, max((entry.at for entry in self._reading.values()), default=0.0)
        ends = [end for end in self.world.ledger.ends(now) if end.until - end.at > LASTING_SECONDS]
        told = [(heard.first(end.user, end.total, end.at - CLOCK_SECONDS), end.at) for end in ends]
        return [max(0.0, at - ended) for at, ended in told if at is not None]

    async def _wrong(self) -> list[str]:
        """Name whoever believes something else than the truth, or that nobody can be asked."""
        try:
            await self.world.catch_up()
            async with self.world.connected("checker") as connection:
                self._reading = await read(connection)
        except (psycopg.Error, redis.exceptions.RedisError, nats.errors.Error, OSError) as error:
            return [f"cannot be compared: {type(error).__name__}: {error}"]
        true = {user: state(entry.rows, entry.at) for user, entry in self._reading.items()}
        wrong = {consumer.name: _differences(consumer, true) for consumer in self.world.consumers}
        self.last = {name for name, texts in wrong.items() if texts} or self.last
        return [text for texts in wrong.values() for text in texts]

    async def _steps_missed(self) -> list[str]:
        """Name each step of the history that somebody who asked for every step was not told in time."""
        rows = await self.world.run(STEPS.format(since=self._since))
        self._since = max((version for _, version in rows), default=self._since)

        async def missed() -> list[str]:
            await self.world.stream.catch_up()
            return [
                f"{consumer.name}: {user} was never told version {version}, a step of the history"
                for consumer in self.world.consumers
                if consumer.name in EVERY
                for user, version in rows
                if version not in consumer.versions.get(user, ())
            ]

        return await settled(missed, lambda found: not found, ON_ITS_WAY_SECONDS)

    async def _crashed(self) -> bool:
        """Whether the server may have taken back commits since this was last asked."""
        ((started,),) = await self.world.run(STARTED)
        before, self._started = self._started, str(started)
        return before != self._started

    def _told_again(self, *, crashed: bool, forgetful: bool) -> list[str]:
        """Name what was told once more and may not be.

        Redis's channel says what the key did not hold, each once unless Redis was `forgetful`. Whoever comes back to a
        live stream is shown the newest total, unless the database has `crashed` and taken that back.
        """
        channel, tabs = self.world.cache.heard, self.world.tabs.heard
        found = [] if forgetful else [(channel, *each) for each in channel.again]
        found += [] if crashed else [(tabs, *each) for each in tabs.again if each[2] < each[1]]
        return [
            f"{who.name}: {user} was told version {version} again after {higher}"
            for who, user, higher, version in found
        ]

    async def _alerts_wrong(self, *, crashed: bool) -> list[str]:
        """Name each event that a webhook was not told in time, or that was not one."""

        async def missing() -> list[str]:
            return [
                f"{receiver.heard.name}: {text}"
                for receiver in self.world.receivers
                for text in receiver.alerts.missing(receiver.heard.at(), crashed=crashed)
            ]

        found = await settled(missing, lambda texts: not texts, ON_ITS_WAY_SECONDS)
        for receiver in self.world.receivers:
            alerts = receiver.alerts
            found += [f"{receiver.heard.name}: {text}" for text in alerts.untrue(crashed=crashed)]
            found += [f"{receiver.heard.name}: {text}" for text in alerts.annals.disputed]
            alerts.annals.disputed.clear()
            alerts.begin_anew()
        return found


def _differences(consumer: Heard, true: Mapping[str, State]) -> list[str]:
    held = consumer.holds()
    return [
        f"{consumer.name}: {user} is told {held.get(user)}, and has {true.get(user, NOTHING)}"
        for user in consumer.only or (held.keys() | true.keys())
        if held.get(user, NOTHING) != true.get(user, NOTHING)
    ]
