"""Plays the application: people spend, buy, renew, use packs up, and let trials run out."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from creditsd.demo.commits import Commits
from creditsd.demo.people import PACKS, YOU, Person
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, rows

TRIAL_SECONDS = 3.0
REGULARS = 9  # people who are always at it, so that a reader sees the same names again
_TRIES = 20

Act = Callable[[], Awaitable[None]]


class Traffic:
    """Writes as an application would, one small transaction after another, and knows nothing of creditsd."""

    def __init__(self, connection: Connection, people: Sequence[Person], commits: Commits) -> None:
        self._connection = connection
        self._commits = commits
        self._chance = random.Random()
        self._people = [str(person.user_id) for person in people if person.user_id != YOU]
        self._regulars = self._people[:REGULARS]

    async def run(self) -> None:
        """Act for ever, each kind of act at its own pace."""
        paces: Sequence[tuple[float, Act]] = (
            (0.11, self._spend),
            (2.6, self._buy),
            (2.2, self._renew),
            (3.1, self._use_up),
            (3.7, self._try_out),
        )
        now = time.monotonic()
        agenda = [(now + seconds * 0.3, number) for number, (seconds, _) in enumerate(paces)]
        heapq.heapify(agenda)
        while True:
            at, number = heapq.heappop(agenda)
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            seconds, act = paces[number]
            await act()
            heapq.heappush(agenda, (time.monotonic() + seconds * self._chance.uniform(0.4, 1.6), number))

    async def _spend(self) -> None:
        user_id = self._chance.choice(self._regulars if self._chance.random() < 0.6 else self._people)
        amount = self._chance.choice((1, 1, 2, 2, 3, 5, 5, 8, 12, 20))
        if not await self._write("spend", user_id, amount=amount):
            await self._top_up(user_id)

    async def _top_up(self, user_id: str) -> None:
        """Do what somebody does who has run dry: renew, or buy a pack where there is no subscription."""
        if not await self._write("renew", user_id):
            await self._buy(user_id)

    async def _buy(self, user_id: str | None = None) -> None:
        pack = self._chance.choice(list(PACKS))
        await self._write("buy_pack", user_id or self._someone(), membership=pack, credits=PACKS[pack])

    async def _renew(self) -> None:
        await self._first_who_can("renew")

    async def _use_up(self) -> None:
        await self._first_who_can("empty_pack")

    async def _try_out(self) -> None:
        user_id = self._someone()
        ends = await self._write("start_trial", user_id, credits=25, seconds=TRIAL_SECONDS)
        self._commits.runs_out(user_id, ends[0][0])

    async def _first_who_can(self, statement: str) -> None:
        for _ in range(_TRIES):
            if await self._write(statement, self._someone()):
                return

    def _someone(self) -> str:
        return self._chance.choice(self._people)

    async def _write(self, statement: str, user_id: str, **values: Any) -> list[tuple[Any, ...]]:
        self._commits.begun(user_id)
        found = await rows(self._connection, sql_files.sql(f"demo/{statement}"), {"user_id": user_id, **values})
        self._commits.ended(user_id, changed=bool(found))
        return found
