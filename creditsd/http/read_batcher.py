"""Batches concurrent reads of totals into one query."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from creditsd.domain.errors import CreditsdError, DatabaseUnavailable, InputError, RowsError, SchemaError
from creditsd.http.hub import Current
from creditsd.postgres import sql_files
from creditsd.postgres.batches import batch, summed
from creditsd.postgres.connections import Pool, borrowed, read_as

PAGE_USERS = 500
WAITING = 20_000  # more than that are refused at once


class ReadBatcher:
    """Collects reads while a query runs, and answers them with the next one. `run` does the querying; several may."""

    def __init__(self, pool: Pool, policy: Mapping[str, object]) -> None:
        self._pool = pool
        self._policy = policy
        self._waiting: dict[str, asyncio.Future[Current | None]] = {}
        self._wakeup = asyncio.Event()
        self._many = asyncio.Lock()
        self._ended = False
        self.user_id_type = ""

    async def read(self, user_id: str) -> Current | None:
        """Read the stored total; of somebody who has none yet, the total as the table has it now.

        Takes a canonical id. Raises DatabaseUnavailable, SchemaError, or InputError for what cannot be an id.
        """
        if self._ended or len(self._waiting) >= WAITING:
            raise DatabaseUnavailable("too many ask at once, or the daemon ends")
        answer = self._waiting.get(user_id)
        if answer is None:
            answer = self._waiting[user_id] = asyncio.get_running_loop().create_future()
            self._wakeup.set()
        return await asyncio.shield(answer)  # others may wait for the same

    async def read_many(self, user_ids: Sequence[str]) -> Sequence[Current | RowsError | None]:
        """Read many users' totals in their order: in one query, and another for those who have none stored.

        One call at a time asks, so that whoever reads a single user finds a connection. A user whose rows cannot be
        summed up is answered with why.
        """
        async with self._many:
            if self._ended:
                raise DatabaseUnavailable("the daemon ends")
            found = await self._found_or_why(user_ids)
        return [found.get(each) for each in user_ids]

    async def run(self) -> None:
        """Answer reads until cancelled, then refuse those that still wait."""
        try:
            while True:
                await self._wakeup.wait()
                if not self._waiting:
                    self._wakeup.clear()
                    continue
                page = [self._waiting.popitem() for _ in range(min(PAGE_USERS, len(self._waiting)))]
                await self._answer(dict(page))
        finally:
            self._ended = True
            self._refuse(self._waiting, DatabaseUnavailable("the daemon ends"))

    async def _answer(self, page: Mapping[str, asyncio.Future[Current | None]]) -> None:
        try:
            found = await self._found(list(page))
        except (InputError, RowsError) as error:
            if len(page) == 1:
                self._refuse(page, error)
                return
            for user_id, answer in page.items():  # one of them is none, and the others must not suffer for it
                await self._answer({user_id: answer})
        except (DatabaseUnavailable, SchemaError) as error:
            self._refuse(page, error)
        except asyncio.CancelledError:
            self._refuse(page, DatabaseUnavailable("the daemon ends"))
            raise
        else:
            for user_id, answer in page.items():
                if not answer.done():
                    answer.set_result(found.get(user_id))

    async def _found_or_why(self, user_ids: Sequence[str]) -> Mapping[str, Current | RowsError]:
        """Find totals; where one of them cannot be told, halve until the error is that user's own."""
        try:
            return await self._found(user_ids)
        except (InputError, RowsError) as error:
            if len(user_ids) == 1:
                if isinstance(error, InputError):
                    raise
                return {user_ids[0]: error}
        half = len(user_ids) // 2
        return {**await self._found_or_why(user_ids[:half]), **await self._found_or_why(user_ids[half:])}

    async def _found(self, user_ids: Sequence[str]) -> dict[str, Current]:
        shown = user_ids[0] if len(user_ids) == 1 else "one of several"
        async with borrowed(self._pool) as connection:
            with read_as(self.user_id_type, shown):
                stored = await batch(connection, sql_files.sql("queries/balances_of"), {"user_ids": list(user_ids)})
                found = {total.user_id: (total.version, total.json()) for total in stored.totals}
                missing = [user_id for user_id in user_ids if user_id not in found]
                if missing:
                    asked = {"user_ids": missing, **self._policy}
                    with summed(shown):
                        computed = await batch(connection, sql_files.sql("queries/totals_now"), asked)
                    found |= {total.user_id: (total.version, total.json()) for total in computed.totals}
        return found

    def _refuse(self, page: Mapping[str, asyncio.Future[Current | None]], error: CreditsdError) -> None:
        for answer in page.values():
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # whoever asked may have gone
