"""How fast everyone is published: the first backfill, and what piled up while the daemon was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import orjson
import redis

from bench.figure import figure, grouped
from bench.ground import Ground, Pace
from bench.line import Line
from bench.sheet import Sheet
from bench.totals import published
from tests.servers import Postgres

ROWS, USERS = 1_000_000, 200_000
CHUNK = 10_000

CHANGE = "UPDATE public.user_credits SET credits = 1 + (credits + 7) %% 1000 WHERE id BETWEEN %s AND %s"

SAME_TABLE = """
CREATE TABLE IF NOT EXISTS public.sums (
    user_id uuid PRIMARY KEY,
    version bigint NOT NULL,
    credits bigint NOT NULL,
    membership_status text NOT NULL,
    plan_type text NOT NULL,
    can_buy boolean NOT NULL,
    subscription_id text,
    membership text,
    expires_at timestamptz
);
CREATE INDEX IF NOT EXISTS sums_version ON public.sums (version);
"""

# The same changes, sums and leading rows, in the one statement that a set-based job would be; no Python, no sink.
SET_BASED = """
INSERT INTO public.sums AS s
SELECT
    r.user_id,
    (extract(epoch FROM now()) * 1000000)::bigint + row_number() OVER (),
    r.credits,
    CASE WHEN r.counts THEN 'active' ELSE 'expired' END,
    CASE WHEN r.leader[1] IS NULL THEN 'one_time' ELSE 'subscription' END,
    r.leader[1] IS NULL,
    r.leader[1],
    r.leader[2],
    r.leader[3]::timestamptz
FROM (
    SELECT
        c.user_id,
        coalesce(sum(c.credits) FILTER (WHERE c.active), 0) AS credits,
        bool_or(c.active) AS counts,
        max(ARRAY[c.subscription_id, c.membership, c.expires_at::text]) FILTER (WHERE c.active) AS leader
    FROM (
        SELECT u.*, u.status = 'active' AND (u.expires_at IS NULL OR u.expires_at > now()) AS active
        FROM public.user_credits AS u
        WHERE u.user_id IN (SELECT user_id FROM creditsd.changes)
    ) AS c
    GROUP BY c.user_id
) AS r
ON CONFLICT (user_id) DO UPDATE
SET version = excluded.version,
    credits = excluded.credits,
    membership_status = excluded.membership_status,
    plan_type = excluded.plan_type,
    can_buy = excluded.can_buy,
    subscription_id = excluded.subscription_id,
    membership = excluded.membership,
    expires_at = excluded.expires_at
"""

BACKFILL, CATCHUP, SQL = "first backfill", "catching up", "set-based SQL alone"


def measure(ground: Ground, pace: Pace) -> dict[str, Any]:
    """Backfill; then stop, change every row, let plain SQL and the daemon do the same work, and again."""
    rows, users = ground.sized(ROWS, 50_000), ground.sized(USERS, 10_000)
    backlog = Backlog(ground, "catchup", rows=rows, users=users)
    ground.say(f"backfill: {backlog.backfill['seconds']:.1f} s")
    rounds = [backlog.round() for _ in range(pace.rounds)]
    ground.drop("catchup")
    return {"rows": rows, "users": users, "backfill": backlog.backfill, "rounds": rounds}


class Backlog:
    """A database in which everyone changes while nobody looks."""

    def __init__(self, ground: Ground, dbname: str, *, rows: int, users: int) -> None:
        self._ground, self._server, self._dbname = ground, ground.server, dbname
        self._rows, self.users = rows, users
        self.dsn = ground.filled(dbname, rows=rows, users=users)
        self.line = Line(self.dsn, ground.valkey)
        self.line.install()
        ground.server.psql(SAME_TABLE, dbname=dbname)
        ground.valkey.flush()
        with redis.Redis(host=ground.valkey.host, port=ground.valkey.port) as client:
            self.backfill = timed(self.line, lambda: client.dbsize() >= users and right(self._server, dbname, client))
        self.plain_sql()  # the first time its table is empty

    def round(self, around: Callable[[], AbstractContextManager[object]] = nullcontext) -> dict[str, Any]:
        """Change every row, then measure both. All that was changed before has been read, and may go."""
        self._server.psql("TRUNCATE creditsd.changes; VACUUM ANALYZE public.user_credits", dbname=self._dbname)
        with around():
            change_everything(self._server, self._dbname, self._rows)
            self._server.psql("ANALYZE creditsd.changes", dbname=self._dbname)  # so that plain SQL plans well
            seconds = self.plain_sql()
            before = published(self._ground.valkey)
            with redis.Redis(host=self._ground.valkey.host, port=self._ground.valkey.port) as client:
                found = timed(
                    self.line,
                    lambda: (
                        published(self._ground.valkey) - before >= self.users  # looking closer takes a while itself
                        and right(self._server, self._dbname, client)
                    ),
                )
        self._ground.say(f"{found['seconds']:.1f} s; plain SQL {seconds:.1f} s")
        return {**found, "sql_seconds": seconds}

    def plain_sql(self) -> float:
        with self._server.connect(self._dbname) as connection:
            begun = time.perf_counter()
            connection.execute(SET_BASED)
            return time.perf_counter() - begun


def timed(line: Line, done: Callable[[], bool]) -> dict[str, Any]:
    """Run the daemon until everything is right, and note its memory every quarter of a second."""
    memory: list[float] = []
    begun = time.perf_counter()
    next_sample = begun
    with line:
        while True:
            asked = time.perf_counter()
            if done():
                break
            if asked >= next_sample:
                memory.append(round(line.memory_mib("VmRSS"), 1))
                next_sample = asked + 0.25
            if asked - begun > 600:
                raise RuntimeError(f"not caught up after 600 s:\n{line.log()}")
            time.sleep(0.05)
        # What looks everything over takes a while itself and is not counted.
        used = line.processor_seconds()
        found = {"seconds": asked - begun, "peak_mib": round(line.memory_mib(), 1), "memory_mib": memory}
        return {**found, "processor_seconds": used}


def change_everything(server: Postgres, dbname: str, rows: int) -> None:
    """Change each row once, so many in a transaction."""
    with server.connect(dbname) as connection:
        for start in range(1, rows + 1, CHUNK):
            connection.execute(CHANGE, (start, start + CHUNK - 1))


def right(server: Postgres, dbname: str, client: redis.Redis) -> bool:
    """Compare every total in Valkey with the truth."""
    query = "SELECT 'credits:' || user_id, sum(credits)::bigint FROM public.user_credits GROUP BY user_id"
    with server.connect(dbname) as connection:
        truth = {str(name): total for name, total in connection.execute(query)}
    names = list(truth)
    for start in range(0, len(names), CHUNK):
        some = names[start : start + CHUNK]
        for name, document in zip(some, client.mget(some), strict=True):
            if document is None or orjson.loads(document)["credits"] != truth[name]:
                return False
    return True


def sheets(found: Mapping[str, Any]) -> list[Sheet]:
    users, rounds, backfill = found["users"], found["rounds"], found["backfill"]
    daemon = figure([users / each["seconds"] for each in rounds])
    plain = figure([users / each["sql_seconds"] for each in rounds])
    peak = figure([each["peak_mib"] for each in rounds])
    processor = figure([each["processor_seconds"] / each["seconds"] for each in rounds])
    first = backfill["processor_seconds"] / backfill["seconds"]
    rows = [
        [BACKFILL, grouped(users / backfill["seconds"]), "", f"{backfill['peak_mib']:.0f}", f"{first:.0%}"],
        [CATCHUP, str(daemon), daemon.ratio_to(plain).as_ratio(), str(peak), f"{processor.median:.0%}"],
        [SQL, str(plain), "1", "", ""],
    ]
    head = ["", "users/s", "/ plain SQL", "peak RSS MiB", "of a processor"]
    title = f"{grouped(found['rows'])} changed rows of {grouped(users)} users, until every total in Valkey is the truth"
    return [Sheet(title, head, rows)]
