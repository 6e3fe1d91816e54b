"""What is stored, what is true, and why: the questions that get, explain, status, watch and backfill ask."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from creditsd.admin import policy_in_force
from creditsd.admin.failed_deliveries import FailedDelivery
from creditsd.admin.holdings import Holdings
from creditsd.admin.leader_lock import leading
from creditsd.admin.sentence import sentence
from creditsd.admin.sink_condition import COUNTED
from creditsd.admin.sinks import ListedSink, Live, list_sinks
from creditsd.capture.change_reader import ChangeReader
from creditsd.capture.lock_holders import strangers_for_sure
from creditsd.config.settings import Settings
from creditsd.domain.errors import DatabaseUnavailable, LockNotFree, RowsError
from creditsd.domain.total import NEWEST_VERSION, Total, digits
from creditsd.postgres import sql_files
from creditsd.postgres.batches import batch, summed
from creditsd.postgres.connections import Connection, connected, read_as, row, rows, translated
from creditsd.postgres.session import limit_lock_waits
from creditsd.schema.installation import Divergence, Installation, Stops, compare
from creditsd.totals.recompute import Recomputer

WATCH_SECONDS = 0.1
FOLLOW_SECONDS = 0.2
LOCK_SECONDS = 2.0

# What each state of the doorbell means.
DOORBELL = {
    "asleep": "asleep: writers ring",
    "asking": "going to sleep: waiting for a silent writer's transaction",
    "awake": "awake: polling, writers keep silent",
    "nobody": "nobody listens",
}


@dataclass(frozen=True, slots=True)
class ExplainedRow:
    """One row of the application's table, and what it does to the total.

    `left_over`: a one-time plan that has expired, or ended, with credits in it, which count no more.
    """

    credits: Decimal | None
    status: str | None
    plan_type: str | None
    membership: str | None
    subscription_id: str | None
    starts_at: datetime | None
    expires_at: datetime | None
    created_at: datetime | None
    counts: bool
    why: str
    left_over: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a user is set aside: `not summed` or `not expired`, what PostgreSQL said, and since when."""

    problem: str
    reason: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class SetAside:
    """How many users have a problem, and one of them; counted up to COUNTED."""

    problem: str
    users: int
    one: str


@dataclass(frozen=True, slots=True)
class Status:
    """The line at a glance; `unread` changes are counted up to COUNTED, `users` is PostgreSQL's own estimate."""

    migration: int
    leader_pid: int | None
    leader_address: str | None
    leader_since: datetime | None
    standbys: list[str]
    doorbell: str
    unread: int
    resyncing: str | None
    resynced_users: int | None
    saved_at: datetime | None
    users: int
    newest: int | None
    sinks: list[ListedSink]
    set_aside: list[SetAside]
    problems: list[dict[str, str]]

    def sentence(self, strangers: Sequence[str] = ()) -> str:
        """Say how all is; `strangers` hold a lock of ours without being one of us."""
        wrong = [f"{each['problem']}: {each['hint']}".removesuffix(": ") for each in self.problems]
        role = ""
        if self.leader_pid is None:
            role = "Nobody leads: start `creditsd run`."
        elif self.resyncing is not None:
            role = f"Everyone is being recomputed: {self.resynced_users or 0} users are done."
        mend = "; ".join([*wrong, *(f"{each}, and is none of ours: end it" for each in strangers)])
        return sentence(mend=mend, role=role, sinks=self.sinks, set_aside=self.set_aside)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything about one user: the rows, the total now, the stored total, what is wrong, and what each sink has.

    There is no total where the rows cannot be summed up.
    """

    total: Total | None
    stored: Total | None
    problems: list[Problem]
    rows: list[ExplainedRow]
    sinks: list[tuple[str, str]]

    @property
    def hints(self) -> list[str]:
        """What may surprise somebody, though nothing is wrong."""
        left = [each.credits for each in self.rows if each.left_over and each.credits is not None]
        if not left:
            return []
        which = "An expired one-time row holds" if len(left) == 1 else f"{len(left)} expired one-time rows hold"
        return [f"{which} {digits(sum(left, Decimal(0)))} credits, which count no more"]

    def document(self) -> dict[str, Any]:
        """Give it under the keys of `creditsd explain --json`, ready for `encode`."""
        return {
            "total": None if self.total is None else self.total.document(),
            "stored": None if self.stored is None else self.stored.document(),
            "problems": [asdict(each) for each in self.problems],
            "rows": [asdict(each) for each in self.rows],
            "hints": self.hints,
            "sinks": dict(self.sinks),
        }


class Inspector:
    """Asks one database. Reads only, but for `backfill`."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        installation: Installation,
        divergences: Sequence[Divergence] = (),
    ) -> None:
        self._connection = connection
        self._divergences = divergences
        self._settings = settings
        self._installation = installation
        self._policy = settings.policy

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, settings: Settings, *, purpose: str, tolerated: Stops | None = None
    ) -> AsyncIterator[Inspector]:
        """Connect for as long as the block lasts.

        Raises SchemaError where the database is not as the settings say, in a way that is not tolerated.
        """
        async with connected(
            settings.dsn, purpose=purpose, schema=settings.schema, shared=settings.shared
        ) as connection:
            found = await compare(connection, settings)
            yield cls(connection, settings, found.installed(tolerated=tolerated), found.divergences)

    async def total(self, user_id: str) -> Total:
        """Compute a user's total now; nobody's is zero.

        Raises InputError for what cannot be a user's id, RowsError where the user's rows cannot be summed up.
        """
        with read_as(self._installation.user_id_type, user_id):
            await row(self._connection, sql_files.sql("queries/user_id_read"), {"user_id": user_id})
        with summed(user_id):
            found = await batch(
                self._connection, sql_files.sql("queries/totals_now"), {"user_ids": [user_id], **self._policy}
            )
        return found.totals[0]

    async def stored(self, user_id: str) -> Total | None:
        """Return the newest published total of a user, or None."""
        with read_as(self._installation.user_id_type, user_id):
            found = await batch(self._connection, sql_files.sql("queries/balance"), {"user_id": user_id})
        return found.totals[0] if found.totals else None

    async def history(self, user_id: str, limit: int) -> Sequence[Total]:
        """Return the steps that are kept of a user, the newest first. Raises InputError for what cannot be an id."""
        with read_as(self._installation.user_id_type, user_id):
            asked = {"user_id": user_id, "before": NEWEST_VERSION, "limit": limit}
            found = await batch(self._connection, sql_files.sql("queries/history_of_user"), asked)
        return found.totals

    async def explain(self, user_id: str, live: Mapping[str, Live] | None = None) -> Explanation:
        """Say of each row whether it counts and why, and of each sink what it has.

        `live` is what a daemon that leads knows of its own sinks, which it saves only now and then.
        """
        total, problems = await self._total_or_problem(user_id)
        stored = await self.stored(user_id)
        explained = []
        with contextlib.suppress(RowsError), summed(user_id):
            explained = await rows(
                self._connection,
                sql_files.sql("queries/rows_explained"),
                {
                    "user_id": user_id,
                    "expire_empty": self._settings.expire_empty,
                    "expired_status": self._settings.source.expired_status,
                },
            )
        return Explanation(
            total=total,
            stored=stored,
            problems=problems,
            rows=[ExplainedRow(*each) for each in explained],
            sinks=await self._held(user_id, stored, live),
        )

    async def _total_or_problem(self, user_id: str) -> tuple[Total | None, list[Problem]]:
        """Return the total, or None where the rows cannot be summed up, and why the user is set aside, if so."""
        try:
            total, wrong = await self.total(user_id), []
        except RowsError as error:
            total, wrong = None, [Problem("not summed", str(error), None)]
        noted = await rows(self._connection, sql_files.sql("queries/problems_of_user"), {"user_id": user_id})
        return total, [Problem(*each) for each in noted] or wrong

    async def status(self, live: Mapping[str, Live] | None = None, *, counted: int = COUNTED) -> Status:
        """Tell who leads, what waits (counted up to a limit), and how each sink is.

        `live` is what a daemon that leads knows of its own sinks. Raises DatabaseUnavailable where somebody has locked
        a table of ours.
        """
        try:
            with translated(self._connection):
                async with self._connection.transaction():
                    await limit_lock_waits(self._connection, LOCK_SECONDS)
                    return await self._status(live, counted)
        except LockNotFree as error:
            held = "; ".join(await self.strangers()) or "somebody has locked a table of creditsd's"
            raise DatabaseUnavailable(f"{held}: end it") from error

    async def _status(self, live: Mapping[str, Live] | None, counted: int) -> Status:
        found = await row(self._connection, sql_files.sql("queries/status"), {"limit": counted})
        assert found is not None
        sinks = await list_sinks(self._connection, self._settings, live, counted=counted)
        set_aside = await rows(self._connection, sql_files.sql("queries/problems_counted"), {"limit": counted})
        return Status(
            *(
                *found,
                list(sinks),
                [SetAside(*each) for each in set_aside],
                [each.document() for each in self._divergences],
            )
        )

    async def strangers(self) -> list[str]:
        """Name who holds a lock of ours without being one of us: the line may stand still because of them."""
        return sorted(str(each) for each in await strangers_for_sure(self._connection))

    async def watch(self, user_ids: Sequence[str]) -> AsyncIterator[Total]:
        """Yield the stored totals of certain users, then every newer one; without users, whatever changes from now."""
        wanted = set(user_ids)
        newest = (await self.status()).newest or 0
        for user_id in user_ids:
            yield await self.stored(user_id) or await self.total(user_id)
        query = sql_files.sql("queries/balances_after")
        while True:
            found = await batch(self._connection, query, {"version": newest, "limit": 1000})
            for total in found.totals:
                newest = total.version
                if not wanted or total.user_id in wanted:
                    yield total
            if not found.totals:
                await asyncio.sleep(WATCH_SECONDS)

    async def backfill(self, progress: Callable[[int, int, bool], None], *, republish: bool = False) -> bool:
        """Recompute everyone: ask the daemon that leads, or do it here where none does; True where a daemon did it.

        With `republish` everyone gets a new version, changed or not, so that every sink takes it. Raises ConfigError
        where it would be done here, and what is stored was made with other settings.
        """
        cause = {"cause": "republish" if republish else "backfill"}
        users = await Recomputer(self._connection, self._policy).count_users()
        async with leading(self._connection, self._settings, purpose="backfill") as session:
            if session is not None:
                await policy_in_force.check(session, self._settings)
                await self._backfill_here(session, cause, lambda done, over: progress(done, users, over))
                return False
        await row(self._connection, sql_files.sql("queries/resync_asked"), cause)
        if self._settings.wakeup == "doorbell":
            await row(self._connection, sql_files.sql("queries/rung"))
        over, done = False, 0
        while not over:
            await asyncio.sleep(FOLLOW_SECONDS)
            followed = await row(self._connection, sql_files.sql("queries/resync_followed"))
            assert followed is not None
            over, done = followed[1], max(done, followed[0])
            progress(users if over else done, users, over)
        return True

    async def _backfill_here(
        self, session: Connection, cause: Mapping[str, str], progress: Callable[[int, bool], None]
    ) -> None:
        """Recompute everyone with the leader's own lock in hand; a daemon that starts meanwhile stands by."""
        recomputer = Recomputer(session, self._policy)
        await ChangeReader(session, self._policy).resume()
        await recomputer.begin_resync(cause["cause"])
        over, done = False, 0
        while not over:
            page = (await recomputer.resync_next(self._settings.max_batch_users)).page
            over, done = page["done"], done + int(page["users"])
            progress(done, over)

    async def _held(self, user_id: str, stored: Total | None, live: Mapping[str, Live] | None) -> list[tuple[str, str]]:
        """Say of each sink what it has of a user."""
        asked = {"sink": None, "user_id": user_id, "dead": False, "limit": COUNTED}
        kept = [
            FailedDelivery(*each)
            for each in await rows(self._connection, sql_files.sql("queries/deliveries_listed"), asked)
        ]
        holdings = Holdings(self._settings, user_id, stored, {each.sink: each for each in kept})
        sinks = await list_sinks(self._connection, self._settings, live)
        return [(each.name, await holdings.said(each)) for each in sinks]
