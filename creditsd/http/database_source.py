"""Feeds the hub: with what the pipeline hands over or, on a standby, by polling what another daemon stored."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

import structlog

from creditsd.config.settings import Settings
from creditsd.domain.errors import DatabaseUnavailable, RowsError, SchemaError
from creditsd.domain.total import Total
from creditsd.domain.user_id import canonical
from creditsd.http.hub import Current, Hub
from creditsd.http.read_batcher import ReadBatcher
from creditsd.postgres import budget, connections, sql_files
from creditsd.postgres.batches import batch
from creditsd.postgres.connections import borrowed, row

log = structlog.get_logger()

PAGE_TOTALS = 1000


@dataclass(frozen=True, slots=True)
class Timings:
    """How long a reader waits for a connection, and the pause after the database has failed."""

    patience_seconds: float = 5.0
    retry_seconds: float = 1.0


class DatabaseSource:
    """The hub's source of totals, and a receiver of the pipeline.

    Its cursor is the version up to which everyone who listens has been told. While we lead, what is handed over moves
    it. Otherwise `run` looks for newer versions, and once more after we began to lead: for what another stored last.
    """

    def __init__(self, settings: Settings, timings: Timings | None = None) -> None:
        self.hub = Hub(self)
        self._timings = timings or Timings()
        self.pool = connections.pool(
            settings.dsn,
            purpose="reader",
            schema=settings.schema,
            max_size=budget.READER,
            shared=settings.shared,
            patience_seconds=self._timings.patience_seconds,
        )
        self.batcher = ReadBatcher(self.pool, settings.policy)
        self._poll_seconds = settings.poll_seconds
        self._user_id_type = ""
        self._leads = False
        self._through = False  # we lead, and nothing lies between the cursor and what is handed over
        self._cursor: int | None = None  # None: nobody has been told anything since nobody listened
        self._wakeup = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.pool.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.pool.close()

    # As the hub's source.

    def canonical(self, user_id: str) -> str:
        """Return an id as it is stored. Raises InputError; DatabaseUnavailable while the table has not been seen."""
        if not self._user_id_type:
            raise DatabaseUnavailable("the daemon has not reached its database yet")
        return canonical(self._user_id_type, user_id)

    async def read(self, user_id: str) -> Current | None:
        """Read the stored total; of somebody who has none yet, the total as the table has it now."""
        return await self.batcher.read(user_id)

    async def read_many(self, user_ids: Sequence[str]) -> Sequence[Current | RowsError | None]:
        """Read many users' totals in one query, and in another those of who has none stored."""
        return await self.batcher.read_many(user_ids)

    async def watch(self, user_id: str) -> None:  # noqa: ARG002  whoever it is, `run` has something to do
        """Start polling for newer totals, where the pipeline does not hand them over."""
        self._wakeup.set()

    def unwatch(self, user_id: str) -> None:
        """Do nothing: totals that nobody listens to are dropped by the hub."""

    # As a receiver.

    def see(self, user_id_type: str) -> None:
        """Learn the type of the users' ids in this database."""
        self._user_id_type = self.batcher.user_id_type = user_id_type
        self._wakeup.set()

    def lead(self, newest: int) -> None:  # noqa: ARG002  we read what we have missed ourselves
        """Note that the pipeline hands over what is stored from now on."""
        self._leads, self._through = True, False
        self._wakeup.set()

    def step_down(self) -> None:
        """Note that the pipeline hands over nothing any more."""
        self._leads = self._through = False
        self._wakeup.set()

    def offer(self, totals: Sequence[Total]) -> None:
        """Pass totals on to those who listen."""
        for total in totals:
            if self.hub.listens(total.user_id):
                self.hub.offer(total.user_id, total.version, total.json())
        if self._through and totals:
            self._cursor = totals[-1].version

    # Beside both.

    async def run(self) -> None:
        """Poll for what is not handed over, as long as somebody listens; pauses while the database is away."""
        while True:
            try:
                await self._step()
            except (DatabaseUnavailable, SchemaError) as error:
                log.debug("live.interrupted", reason=str(error))
                await self._pause(self._timings.retry_seconds, deaf=True)

    async def _step(self) -> None:
        if not self.hub.users or not self._user_id_type:
            self._cursor = None
            await self._pause(None)
            return
        if self._through:
            await self._pause(None)
            return
        leads = self._leads  # since before we look
        if self._cursor is None:
            await self._tell_everyone()
        else:
            await self._tell_news(self._cursor)
        self._through = leads and self._leads
        if not self._leads:
            await self._pause(self._poll_seconds, deaf=True)

    async def _tell_everyone(self) -> None:
        """Offer every listener the stored total, and set the cursor to the newest version."""
        async with borrowed(self.pool) as connection:
            found = await row(connection, sql_files.sql("queries/newest_version"))
        assert found is not None
        newest = int(found[0])
        users = iter(list(self.hub.users))
        while part := list(islice(users, PAGE_TOTALS)):
            async with borrowed(self.pool) as connection:
                self.offer((await batch(connection, sql_files.sql("queries/balances_of"), {"user_ids": part})).totals)
        self._cursor = newest

    async def _tell_news(self, cursor: int) -> None:
        """Offer what was stored after the cursor; where that is more than a page, read those who listen instead."""
        asked = {"version": cursor, "limit": PAGE_TOTALS}
        async with borrowed(self.pool) as connection:
            found = await batch(connection, sql_files.sql("queries/balances_after"), asked)
        self.offer(found.totals)
        if len(found.totals) == PAGE_TOTALS:
            await self._tell_everyone()
        elif found.totals:
            self._cursor = found.totals[-1].version

    async def _pause(self, seconds: float | None, *, deaf: bool = False) -> None:
        """Wait for a wakeup, at most so many seconds; with `deaf` for all of them."""
        if deaf and seconds is not None:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()
        self._wakeup.clear()
