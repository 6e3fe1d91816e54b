"""Compares what is stored, and what sinks hold, with the truth; and has what drifted told again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

from creditsd.admin import policy_in_force
from creditsd.admin.leader_lock import leading, led
from creditsd.config.settings import Settings
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, connected, row, rows
from creditsd.schema import install as schema
from creditsd.sinks import Telling, make
from creditsd.totals.comparison import Compared, Comparison
from creditsd.totals.recompute import Recomputer

STORED = "stored"  # the place that is our own table; a sink of this name is none the worse for it

SUSPECTS = 10_000  # are judged, and mended, together; never more than this and a page are in memory

# The daemon saves its cursors every second; what has not settled after this much is no longer on its way.
SETTLE_SECONDS = 0.3
SETTLE_LOOKS = 6
MEND_SECONDS = 0.05
PATIENCE_SECONDS = 10.0  # without a single user mended; after that has happened once, less
IMPATIENCE_SECONDS = 0.5

Progress = Callable[[int, int, bool], None]  # users done, users in all (about), whether it is over


@dataclass(frozen=True, slots=True)
class Drift:
    """One user whose total somewhere is not what it should be; credits are those of our own table."""

    user_id: str
    place: str
    kind: Literal["missing", "wrong", "older", "newer"]
    stored_version: int | None
    held_version: int | None
    stored_credits: Decimal | None
    true_credits: Decimal
    mended: bool = False


@dataclass(slots=True)
class Verdict:
    """What a verification found. `waiting` is not drift: it is on its way, or waits for a daemon or a sink.

    Nothing is known of users that are `set_aside`: their rows cannot be summed up.
    """

    users: int = 0
    drifted: int = 0
    mended: int = 0
    waiting: int = 0
    set_aside: int = 0
    led: bool = False
    compared: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is left that drifted, and everyone could be compared."""
        return self.drifted == self.mended and not self.set_aside


@dataclass(slots=True)
class Suspects:
    """Users who differed when everyone was compared, each once and in order; and those of them who wait."""

    users: list[str] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)


class Verifier:
    """Walks through everyone, a page at a time; nothing but the page and its suspects is ever in memory.

    To mend is the leader's: totals that another stored while a daemon leads would lie behind what its publishers take
    up next, and be passed by. So `repair` leaves the users in `creditsd.repairs` and rings, and the daemon tells of
    them again, with new versions, between two drains. Where no daemon leads we take its lock and do it here; the sinks
    then learn of it when one starts.
    """

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        sinks: Mapping[str, Telling],
        silent: Sequence[str],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._policy = settings.policy
        self._recomputer = Recomputer(connection, self._policy)
        self._comparison = Comparison(connection, self._policy)
        self._sinks = sinks
        self._looks = SETTLE_LOOKS
        self._patience_seconds = PATIENCE_SECONDS
        self._verdict = Verdict(compared=list(sinks), silent=list(silent))

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings, sinks: Sequence[str]) -> AsyncIterator[Verifier]:
        """Connect to the database and the named sinks for as long as the block lasts.

        Raises InputError for a sink that is not configured, SinkUnavailable for one that does not answer, ConfigError
        where what is stored was made with other settings.
        """
        async with AsyncExitStack() as stack:
            telling: dict[str, Telling] = {}
            silent = []
            for name in dict.fromkeys(sinks):
                sink = make(settings.sink(name))
                if not isinstance(sink, Telling):
                    silent.append(name)
                    continue
                stack.push_async_callback(sink.close)
                await sink.open()
                telling[name] = sink
            connection = await stack.enter_async_context(
                connected(settings.dsn, purpose="verify", schema=settings.schema, shared=settings.shared)
            )
            await schema.missing(connection, settings)
            await policy_in_force.check(connection, settings)
            yield cls(connection, settings, telling, silent)

    async def run(self, *, repair: bool, progress: Progress, report: Callable[[Drift], None]) -> Verdict:
        """Compare everyone, and with `repair` have the drifted told again; report each drift as it is certain."""
        users = await self._recomputer.count_users()
        suspects = Suspects()
        page = await self._comparison.users_after(None, self._limit)
        while page:
            stored = await self._comparison.compare(page)
            drifts, waiting = await self._looked(stored)
            drifting = {drift.user_id for drift in drifts}
            suspects.users += [user_id for user_id in stored if user_id in drifting or user_id in waiting]
            suspects.waiting |= waiting
            self._verdict.users += len(page)
            self._verdict.set_aside += len(page) - len(stored)
            last = len(page) < self._limit
            if suspects.users and (last or len(suspects.users) >= SUSPECTS):
                await self._judge(suspects, repair=repair, report=report)
                suspects = Suspects()
            progress(self._verdict.users, users, False)
            page = [] if last else await self._comparison.users_after(page[-1], self._limit)
        if suspects.users:
            await self._judge(suspects, repair=repair, report=report)
        self._verdict.led = await led(self._connection)
        progress(self._verdict.users, users, True)
        return self._verdict

    @property
    def _limit(self) -> int:
        return self._settings.max_batch_users

    async def _judge(self, suspects: Suspects, *, repair: bool, report: Callable[[Drift], None]) -> None:
        """Look again at those that differed, until they are right, certainly drifted, or known to wait."""
        drifts, waiting = await self._settled(suspects)
        self._verdict.waiting += waiting
        self._verdict.drifted += len(drifts)
        left = await self._mend(drifts) if repair and drifts else {(drift.user_id, drift.place) for drift in drifts}
        for drift in drifts:
            mended = (drift.user_id, drift.place) not in left
            self._verdict.mended += mended
            report(replace(drift, mended=mended))

    async def _settled(self, suspects: Suspects) -> tuple[list[Drift], int]:
        """Return what has certainly drifted, and how many users only wait: to be found once is not to be certain."""
        looks = self._looks if await led(self._connection) else 2
        users, waiting = suspects.users, suspects.waiting
        drifts: list[Drift] = []
        for _ in range(looks - 1):
            await asyncio.sleep(SETTLE_SECONDS if waiting else 0)
            drifts, waiting = await self._looked(await self._comparison.compare(users))
            drifting = {drift.user_id for drift in drifts}
            users = [user_id for user_id in users if user_id in drifting or user_id in waiting]
            if not waiting:
                break
        if waiting:
            self._looks = 2  # whoever keeps these waiting keeps the others too
        return drifts, len(waiting)

    async def _looked(self, stored: Mapping[str, Compared]) -> tuple[list[Drift], set[str]]:
        """Return what drifted of what was compared, but for who waits; and who waits."""
        drifts = await self._drifts(stored)
        waiting = await self._waiting(drifts)
        return [drift for drift in drifts if drift.user_id not in waiting], waiting

    async def _drifts(self, stored: Mapping[str, Compared]) -> list[Drift]:
        users = list(stored)
        drifts = [
            Drift(user_id, STORED, each.drift, each.version, None, each.stored_credits, each.true_credits)
            for user_id, each in stored.items()
            if each.drift is not None
        ]
        for place, sink in self._sinks.items():
            held = dict(zip(users, await sink.held_many(users), strict=True))
            # Told in between: what is stored now decides.
            ahead = [user_id for user_id in users if (held[user_id] or 0) > (stored[user_id].version or 0)]
            later = {**stored, **(await self._comparison.compare(ahead))} if ahead else stored
            for user_id in users:
                kind = _compared(held[user_id], stored[user_id].version, later[user_id].version)
                if kind is not None:
                    version, _, amount, truth = stored[user_id]
                    drifts.append(Drift(user_id, place, kind, version, held[user_id], amount, truth))
        return drifts

    async def _waiting(self, drifts: Sequence[Drift]) -> set[str]:
        """Tell for whom news is on its way: a change unread, or a sink that has yet to be told.

        What a sink had been told and does not hold any more is lost, whatever is unread: a change may leave the total
        as it is, and then nobody is told.
        """
        if not drifts:
            return set()
        users = list({drift.user_id for drift in drifts})
        unread = await self._comparison.unread(users)
        told = await rows(self._connection, sql_files.sql("queries/cursors"))
        cursors: dict[str, int] = dict(told)
        behind = {
            drift.user_id
            for drift in drifts
            if drift.place in self._sinks
            and drift.kind != "newer"
            and (drift.stored_version or 0) > cursors.get(drift.place, 0)
        }
        mended_by_news = {drift.user_id for drift in drifts if drift.place == STORED or drift.kind == "newer"}
        return behind | (unread & mended_by_news)

    async def _mend(self, drifts: Sequence[Drift]) -> set[tuple[str, str]]:
        """Have users told again, and wait as long as that makes progress; return who, and where, is left.

        Who is looked at again has been told again: to look at all of them each time takes as much as it takes to mend.
        """
        users = {drift.user_id for drift in drifts}
        left = {(drift.user_id, drift.place) for drift in drifts}
        here = await self._asked(list(users))
        unrepaired = set() if here else users
        deadline, took = time.monotonic() + self._patience_seconds, 0.0
        while left:
            await asyncio.sleep(max(MEND_SECONDS, took))  # the daemon needs the database more
            began, before = time.monotonic(), (len(unrepaired), len(left))
            unrepaired = await self._comparison.unrepaired(unrepaired) if unrepaired else unrepaired
            told = {who for who, _ in left} - unrepaired
            stored = await self._comparison.compare(list(told)) if told else {}
            now = {(drift.user_id, drift.place) for drift in await self._drifts(stored)}
            left = {each for each in left if each[0] in unrepaired or each in now}
            took = time.monotonic() - began
            if (len(unrepaired), len(left)) != before:
                deadline = time.monotonic() + self._patience_seconds
            elif here or time.monotonic() > deadline:
                self._patience_seconds = IMPATIENCE_SECONDS
                break
        return left

    async def _asked(self, users: Sequence[str]) -> bool:
        """Ask the daemon that leads to tell of users again, or do it here where none does; True where done here."""
        async with leading(self._connection, self._settings, purpose="verify") as session:
            if session is not None:
                recomputer = Recomputer(session, self._policy)
                await recomputer.recompute(users, cause="repair", republish=True)
                return True
        await row(self._connection, sql_files.sql("queries/repairs_asked"), {"user_ids": list(users)})
        await row(self._connection, sql_files.sql("queries/rung"))
        return False


def _compared(
    held: int | None, stored: int | None, stored_later: int | None
) -> Literal["missing", "older", "newer"] | None:
    """Judge what a sink holds by what was stored before it was asked, and after."""
    if held is None:
        return None if stored is None else "missing"
    if held > (stored_later or 0):
        return "newer"
    return "older" if held < (stored or 0) else None
