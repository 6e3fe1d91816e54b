"""Who leads: one daemon at a time, by an advisory lock on the session that writes balances; others stand by."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from creditsd.config.settings import Settings
from creditsd.daemon import leader_watch
from creditsd.daemon.leader_watch import LeaderWatch
from creditsd.daemon.leadership import Leadership
from creditsd.daemon.pipeline import Pipeline
from creditsd.daemon.stall_watch import StallWatch
from creditsd.daemon.state import DaemonState
from creditsd.daemon.vacancy import Vacancy
from creditsd.domain.backoff import Backoff
from creditsd.domain.errors import ConfigError, CreditsdError, DatabaseUnavailable, SchemaError, SessionEnded, ungrouped
from creditsd.postgres import sql_files
from creditsd.postgres.connections import (
    Connection,
    check_own,
    check_there,
    connected,
    kept,
    row,
    translated,
    woken_by,
)
from creditsd.schema import install as schema

log = structlog.get_logger()

Opener = Callable[[Connection], AbstractAsyncContextManager[Leadership]]


@dataclass(frozen=True, slots=True)
class Timings:
    """How often a standby asks whether it may lead, and how often we look at what somebody has to mend.

    What fails within `steady_seconds` waits longer each time, though it had connected; at most `longest_pause_seconds`.
    Who stood still for `stalled_seconds` leads no more: a standby waits three times as long before it ends a leader.
    """

    standby_seconds: float = 1.0
    mending_seconds: float = 5.0
    steady_seconds: float = 10.0
    longest_pause_seconds: float = 5.0
    stalled_seconds: float = 10.0
    leader: leader_watch.Timings = field(default_factory=leader_watch.Timings)


class Led(Protocol):
    """Whoever works only while this daemon leads."""

    def lead(self, newest: int) -> None:
        """Hear that a leadership begins, and which version is the newest stored."""

    def step_down(self) -> None:
        """Hear that the leadership is lost, or given back: another daemon may lead from now on."""


class Election:
    """Gains leadership, keeps it, and gives it back; tells whoever is led of gain and of loss.

    When the session dies, its transaction and its lock die with it: a deposed leader cannot write. `seen` hears the
    type of the ids as soon as the database is known, whether we lead or not.
    """

    def __init__(
        self,
        settings: Settings,
        opened: Opener,
        pipeline: Pipeline,
        state: DaemonState,
        *,
        led: Sequence[Led],
        stall_watch: StallWatch,
        timings: Timings,
        seen: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._seen = seen
        self._opened = opened
        self._pipeline = pipeline
        self._led = led
        self._state = state
        self._timings = timings
        self._stall_watch = stall_watch
        self._started = False
        self._ending = False
        self._woken = asyncio.Event()
        self._resigning = asyncio.Event()
        self.idle = asyncio.Event()
        """Set once nothing new will be stored by this daemon: it has been told to end, and works no more."""

    async def run(self) -> None:
        """Lead, or stand by, again and again, until `end` and `resign`.

        Raises ConfigError, SchemaError or DatabaseUnavailable when the first start cannot succeed; after that it waits
        and tries again.
        """
        backoff = Backoff(longest_seconds=self._timings.longest_pause_seconds)
        try:
            while not self._ending:
                self._state.turned()
                began = time.monotonic()
                try:
                    with ungrouped():
                        await self._stand()
                except SessionEnded as error:
                    await self._doze(error)
                except (DatabaseUnavailable, SchemaError, ConfigError) as error:
                    if not self._started:
                        raise
                    if time.monotonic() - began > self._timings.steady_seconds:
                        backoff.begin_anew()
                    await self._recover(await self._explained(error), backoff)
        finally:
            self.idle.set()

    def end(self) -> None:
        """Store nothing more, and lead no more if we do not yet; a leadership is kept until `resign`."""
        self._ending = True
        self._woken.set()
        self._pipeline.end()

    def resign(self) -> None:
        """Give leadership back: whoever was handed what was stored has done with it."""
        self._resigning.set()

    async def _stand(self) -> None:
        """Connect, wait for our turn, and lead until the end, or until a connection is lost."""
        async with connected(
            self._settings.direct_dsn, purpose="leader", schema=self._settings.schema, direct=True
        ) as session:
            # Somebody is there who starts us; later on, nobody is helped by a daemon that does nothing.
            installation = await (schema.usable if self._started else schema.missing)(session, self._settings)
            self._started = True
            self._seen(installation.user_id_type)
            vacancy = Vacancy(session)
            if await self._gain(session, vacancy):
                if self._state.now == "standby":  # for long, maybe: a newer creditsd may have installed meanwhile
                    await schema.usable(session, self._settings)
                async with self._opened(session) as leadership:
                    await self._lead(leadership)
                await vacancy.announce()

    async def _gain(self, session: Connection, vacancy: Vacancy) -> bool:
        """Wait until no other daemon leads; False when we are to end before that.

        Meanwhile note which versions that one gives out: a failover may take them back.
        """
        recent, watch = (
            self._pipeline.recent,
            LeaderWatch(self._state, self._timings.leader, self._settings.quiet_seconds),
        )
        pause_seconds = max(self._timings.standby_seconds, self._settings.quiet_seconds)
        while not self._ending:
            self._state.turned()
            async with kept(session):
                found = await row(session, sql_files.sql("queries/leadership_taken"))
            if found is not None and found[0]:
                await vacancy.ignore()
                self._state.note("leader", "")
                return True
            if self._state.now != "standby":
                log.info("daemon.stood_by", reason="another daemon leads")
                self._state.enter("standby")
                self._pipeline.stand_by()
            await check_own(session)
            if await vacancy.listen():
                continue
            await watch.look(session)
            newest = await row(session, sql_files.sql("queries/newest_version"))
            if newest is not None:
                recent.see(newest[0])
            await self._rest(session, pause_seconds)
        return False

    async def _rest(self, session: Connection, seconds: float) -> None:
        """Wait until it is time to ask again, or until a leader that ends rings for us.

        Where we poll, a server that is suspended ends the session, and is asked no sooner than it would have been.
        """
        self._state.rest(seconds)
        again_at = time.monotonic() + seconds
        with woken_by(session, self._woken.set):
            await self._wait(seconds)
        if self._settings.quiet_seconds and not self._ending:
            await check_there(session, again_at)

    async def _lead(self, leadership: Leadership) -> None:
        """Tell of the gain, work, and keep the lock until it is given back; tell of the loss, however it comes."""
        self._state.work()
        floor_version = self._pipeline.recent.highest
        resumption = await leadership.change_reader.resume(floor_version=floor_version)
        try:
            for each in self._led:
                each.lead(resumption.newest)
            async with self._unless_stalled():
                await self._pipeline.lead(leadership, resumption)
                self.idle.set()
                await self._keep(leadership.session)
        finally:
            self._step_down()
            log.info("daemon.stepped_down")

    def _step_down(self) -> None:
        for each in self._led:
            each.step_down()

    @contextlib.asynccontextmanager
    async def _unless_stalled(self) -> AsyncIterator[None]:
        """Raise DatabaseUnavailable where we stood still for so long that another may lead.

        What was about to be delivered is that one's to deliver: we step down before anything else goes on.
        """
        stood_still: list[float] = []

        def give_up(seconds: float) -> None:
            stood_still.append(seconds)
            self._step_down()
            turn.reschedule(0.0)

        try:
            async with asyncio.timeout(None) as turn:
                with self._stall_watch.watching(give_up):
                    yield
        except TimeoutError:
            if not stood_still:
                raise
            reason = f"this process stood still for {stood_still[0]:.0f} s: another may lead"
            raise DatabaseUnavailable(reason) from None

    async def _keep(self, session: Connection) -> None:
        """Hold the lock without any work, for those who still publish; raises DatabaseUnavailable when it is lost."""
        while not self._resigning.is_set():
            with translated():
                await session.execute("")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timings.standby_seconds):
                    await self._resigning.wait()

    async def _doze(self, error: SessionEnded) -> None:
        """Leave a server alone that was suspended while there was nothing to do; the state stays what it was."""
        seconds = max(0.0, error.again_at - time.monotonic())
        reason = f"the server ended an idle session: {error}"
        log.info("daemon.session_ended", reason=reason, next_try_seconds=round(seconds, 2))
        self._state.rest(seconds)
        await self._wait(seconds)

    async def _explained(self, error: CreditsdError) -> CreditsdError:
        """Return what is wrong with the schema, where a statement that failed knows only what it has not found."""
        if not isinstance(error, SchemaError):
            return error
        try:
            async with connected(self._settings.direct_dsn, purpose="leader", schema=self._settings.schema) as session:
                await schema.usable(session, self._settings)
        except CreditsdError as found:
            return found if isinstance(found, SchemaError) else error
        return error

    async def _recover(self, error: CreditsdError, backoff: Backoff) -> None:
        """Say why we do not lead, and wait as long as it takes to be worth another try."""
        unavailable = isinstance(error, DatabaseUnavailable)
        seconds = backoff.next(None if unavailable else self._timings.mending_seconds)
        self._state.enter("disconnected", str(error))
        say = log.warning if unavailable else log.error
        say("daemon.interrupted", reason=str(error), next_try_seconds=round(seconds, 2))
        await self._wait(seconds)

    async def _wait(self, seconds: float) -> None:
        """Wait, but not beyond the end, nor when something wakes us."""
        if self._ending:
            return
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
