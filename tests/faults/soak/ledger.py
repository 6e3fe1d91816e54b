"""The ledger of truth: what each user's rows were after each commit of the application's own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg

from tests.faults.soak.rule import ROWS, Row, State, state

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

SLACK_SECONDS = 3.0
"""By how much the moment at which somebody looked may differ from the commit's, on a machine that does much else."""


class Entry(NamedTuple):
    """A user's rows as a commit left them, and when they were read."""

    at: float
    rows: Sequence[Row]


class End(NamedTuple):
    """What time made of a user, and when; nothing else has changed them until `until`."""

    user: str
    total: State
    at: float
    until: float


Reading = Mapping[str, Entry]


async def read(connection: Connection, users: Sequence[str] | None = None) -> dict[str, Entry]:
    """Read the rows of some users, or of everyone, as this session sees them; who has none is there without.

    Not by a prepared statement: in an older session it would fail where the type of a column is another by now.
    """
    chosen = "" if users is None else " AND user_id = ANY(%s::uuid[])"
    parameters = None if users is None else (list(users),)
    cursor = await connection.execute((ROWS + chosen).encode(), parameters, prepare=False)
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    at = 0.0
    for user, *row, now in await cursor.fetchall():
        rows[user].append(Row(*row))
        at = now
    if not at:
        cursor = await connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        ((at,),) = await cursor.fetchall()
    return {user: Entry(at, rows[user]) for user in (users if users is not None else list(rows))}


@dataclass(slots=True)
class Ledger:
    """Who had which rows, commit after commit; users are held while they are written, so the order is known."""

    users: Sequence[str]
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def holding(self, users: Iterable[str] | None = None) -> AsyncIterator[list[str]]:
        """Let nobody else write these users, or any, until the end of the block."""
        wanted = sorted(self.users if users is None else set(users))
        async with contextlib.AsyncExitStack() as stack:
            for user in wanted:
                await stack.enter_async_context(self._locks.setdefault(user, asyncio.Lock()))
            yield wanted

    def note(self, reading: Reading) -> None:
        """Put down what a commit has left, or may have left where nobody knows whether it was one."""
        for user, entry in reading.items():
            self.entries.setdefault(user, []).append(entry)

    def begin_anew(self, reading: Reading) -> None:
        """Forget what was before: everyone is known to have been told this."""
        at = max((entry.at for entry in reading.values()), default=0.0)
        self.entries = {user: [reading.get(user, Entry(at, ()))] for user in self.users}

    def states(self, user: str, until: float) -> list[State]:
        """Every total a user had, one after the other: by commits, and by the ends of plans between them."""
        entries = self.entries.get(user, [])
        ends = [entry.at + SLACK_SECONDS for entry in entries[1:]] + [until]
        found: list[State] = []
        for entry, end in zip(entries, ends, strict=True):
            begin = entry.at - SLACK_SECONDS
            moments = sorted(row.ends for row in entry.rows if row.ends is not None and begin < row.ends <= end)
            found += [state(entry.rows, at) for at in (begin, *moments)]
        return found

    def ends(self, until: float) -> Iterator[End]:
        """Every moment at which time alone has changed a total, by the end of a plan."""
        for user, entries in self.entries.items():
            for entry, following in zip(entries, [*(each.at for each in entries[1:]), until], strict=True):
                moments = sorted({row.ends for row in entry.rows if row.ends and entry.at < row.ends < following})
                before = state(entry.rows, entry.at)
                for moment, ends in itertools.pairwise([*moments, following]):
                    total = state(entry.rows, moment)
                    if total != before:
                        yield End(user, total, moment, ends)
                    before = total
