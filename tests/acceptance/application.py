"""The application that shares a pooler with creditsd: short transactions, and what it finds set in its sessions."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg

from tests.pgbouncer import PgBouncer

USERS = 20
WATCHED = (
    "synchronous_commit",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "search_path",
    "row_security",
    "jit",
    "TimeZone",
    "DateStyle",
    "role",
)
_SEEN = "SELECT array_agg(current_setting(name) ORDER BY name) FROM unnest(%s::text[]) AS name"
_WRITE = "UPDATE public.user_credits SET credits = credits + 1 WHERE id = %s"


@dataclass(slots=True)
class Application:
    """What it has found so far; `transactions` are those that have committed."""

    transactions: int = 0
    seen: set[tuple[str, ...]] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self, pooler: PgBouncer, ended: threading.Event, rest_seconds: float) -> None:
        """Transact until the end, over one connection."""
        dice = random.Random(threading.get_ident())
        with contextlib.closing(pooler.connect()) as connection:
            while not ended.wait(rest_seconds):
                try:
                    with connection.transaction():
                        found = connection.execute(_SEEN, [list(WATCHED)]).fetchall()
                        connection.execute(_WRITE, [dice.randrange(USERS)])
                except psycopg.Error as error:
                    with self.lock:
                        self.failures.append(str(error))
                    return
                with self.lock:
                    self.transactions += 1
                    self.seen.add(tuple(found[0][0]))


@contextlib.contextmanager
def application(pooler: PgBouncer, clients: int = 4, rest_seconds: float = 0.02) -> Iterator[Application]:
    """Run it for as long as the block lasts, each client with a rest after a transaction; none of those may fail."""
    ended, running = threading.Event(), Application()
    with ThreadPoolExecutor(clients) as threads:
        working = [threads.submit(running.work, pooler, ended, rest_seconds) for _ in range(clients)]
        try:
            yield running
        finally:
            ended.set()
    for each in working:
        each.result()
    assert running.failures == []
