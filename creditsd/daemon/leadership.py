"""What one leadership consists of: opened by whoever wins the election, and lost as one with any of its connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn, Protocol

from creditsd.capture import change_purger, doorbell
from creditsd.capture.change_purger import ChangePurger
from creditsd.capture.change_reader import ChangeReader
from creditsd.capture.doorbell import Doorbell
from creditsd.config.settings import Settings
from creditsd.daemon import lock_watch
from creditsd.daemon.lock_watch import LockWatch
from creditsd.daemon.polls import Polls
from creditsd.daemon.state import DaemonState
from creditsd.daemon.tasks import begun, ended
from creditsd.delivery.attempt_log import AttemptLog
from creditsd.delivery.attempt_purger import AttemptPurger
from creditsd.postgres.connections import Connection, Pool, translated
from creditsd.postgres.pooler import server_pid
from creditsd.totals import timings as totals
from creditsd.totals.history_partitions import HistoryPartitions
from creditsd.totals.recompute import Recomputer
from creditsd.totals.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Leadership:
    """The session that holds the leader's lock and writes balances, and what works on it."""

    session: Connection
    change_reader: ChangeReader
    recomputer: Recomputer
    doorbell: Doorbell


class Times(Protocol):
    """What the parts of a leadership take as their times; the daemon's own has more."""

    @property
    def doorbell(self) -> doorbell.Timings:
        """When to sleep and wake."""

    @property
    def purger(self) -> change_purger.Timings:
        """When to delete changes that are read."""

    @property
    def totals(self) -> totals.Timings:
        """When to open and drop partitions, among others."""

    @property
    def locks(self) -> lock_watch.Timings:
        """When to look who holds our locks."""


class Job(Protocol):
    """What a leader does in the background."""

    async def run(self, pool: Pool) -> NoReturn:
        """Do it until cancelled."""


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens leaderships; `told` hears what rings with a word in it, as commands do."""

    settings: Settings
    pool: Pool
    told: Callable[[str], None]
    state: DaemonState
    polls: Polls
    sweep: Sweep | None
    attempt_log: AttemptLog
    timings: Times

    @asynccontextmanager
    async def __call__(self, session: Connection) -> AsyncIterator[Leadership]:
        """Open what leading takes, run what runs beside it, and end all of it as one.

        Raises a group with DatabaseUnavailable where any of its connections is lost.
        """
        settings = self.settings
        partitions = HistoryPartitions(settings.history.days, self.timings.totals.partitions, self.polls.pause)
        await partitions.tidy(session)  # before the first step of today
        reader = ChangeReader(session, settings.policy)
        recomputer = Recomputer(session, settings.policy)
        async with (
            Doorbell.opened(settings, told=self.told, timings=self.timings.doorbell) as bell,
            asyncio.TaskGroup() as tasks,
        ):
            with translated():
                pid = await server_pid(session)
            locks = LockWatch(pid, self.state, lambda: bell.state, self.timings.locks)
            attempts = (self.attempt_log, AttemptPurger(self.polls.pause))
            jobs: Sequence[Job] = (ChangePurger(reader, self.timings.purger), partitions, locks, *attempts)
            running = [*bell.beside(), *(job.run(self.pool) for job in jobs)]
            if self.sweep is not None:
                running.append(self.sweep.run(self.pool, at_rest=self._at_rest, pause=self.polls.pause))
            beside = [begun(tasks, each) for each in running]
            try:
                yield Leadership(session, reader, recomputer, bell)
            finally:
                await ended(beside)

    def _at_rest(self) -> bool:
        """Whether everyone was recomputed, and nothing else goes through them now."""
        return self.state.now == "leading"
