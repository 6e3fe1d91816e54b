"""What a publisher is tried on, as it is stored: users' totals and steps, and what other daemons and people write."""

from __future__ import annotations

from typing import NamedTuple

import psycopg

from creditsd.postgres import sql_files

EMPTY = "".join(
    f"DELETE FROM creditsd.{each}; " for each in ("balances", "history", "history_kept", "sinks", "deliveries")
)
STORE = """
    INSERT INTO creditsd.balances AS b (
        user_id, version, updated_at, credits, membership_status, plan_type, can_buy, has_ever_had_subscription, cause
    )
    VALUES (%s, %s, now(), %s, 'active', 'one_time', true, false, 'change')
    ON CONFLICT (user_id) DO UPDATE
    SET version = excluded.version, credits = excluded.credits
"""
KEEP = """
    INSERT INTO creditsd.history (
        user_id, version, updated_at, credits, membership_status, plan_type, can_buy, has_ever_had_subscription, cause
    )
    VALUES (%s, %s, now(), %s, 'active', 'one_time', true, false, 'change')
"""
KEPT = """
    INSERT INTO creditsd.history_kept (days, whole_after, upto) VALUES (7, 0, %s)
    ON CONFLICT (single) DO UPDATE SET upto = excluded.upto
"""
TOLD_BY_ANOTHER = """
    INSERT INTO creditsd.sinks (name, cursor) VALUES ('memory', %s)
    ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor
"""
REFUSED_TO_ANOTHER = """
    INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, next_at, last_error, in_order)
    VALUES ('memory', %s, %s, 1, now() + interval '1 hour', 'sink memory: not today', %s)
    ON CONFLICT (sink, user_id) DO NOTHING
"""
RETRY = "UPDATE creditsd.deliveries SET next_at = now(), attempt = 0"
STORED = """
    SELECT
        coalesce(s.cursor, 0),
        s.last_error,
        s.failing_since IS NOT NULL,
        s.disabled_reason IS NOT NULL,
        (SELECT coalesce(jsonb_object_agg(d.user_id, d.version), '{}') FROM creditsd.deliveries AS d)
    FROM (VALUES (1)) AS one
    LEFT JOIN creditsd.sinks AS s ON true
"""


class Stored(NamedTuple):
    """What the database says of the sink; `waiting` are the users and versions of refused deliveries."""

    cursor: int
    last_error: str | None
    failing: bool
    disabled: bool
    waiting: dict[str, int]


class SteppedDatabase:
    """Writes what the line, a person or another daemon would, and reads what the publisher has stored."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.execute(EMPTY.encode())

    def store(self, user_id: str, version: int) -> None:
        """Store a total, and the step."""
        for query in (STORE, KEEP):
            self._connection.execute(query.encode(), [user_id, version, version])
        self._connection.execute(KEPT, [version])

    def pause(self, *, paused: bool) -> None:
        query = "queries/sink_paused" if paused else "queries/sink_resumed"
        self._connection.execute(sql_files.sql(query), {"name": "memory"})

    def retry(self) -> None:
        """Have everything that was refused be due."""
        self._connection.execute(RETRY)

    def replay(self) -> None:
        """Have everything told again."""
        self._connection.execute(sql_files.sql("queries/sink_replayed"), {"name": "memory"})

    def tell(self, version: int) -> None:
        """Move the cursor, as another daemon does."""
        self._connection.execute(TOLD_BY_ANOTHER, [version])

    def refuse(self, user_id: str, version: int, *, in_order: bool) -> None:
        """Keep what was refused, as another daemon does."""
        self._connection.execute(REFUSED_TO_ANOTHER, [user_id, version, in_order])

    def read(self) -> Stored:
        """Read what is stored of the sink."""
        return Stored(*self._connection.execute(STORED).fetchone() or ())

    def close(self) -> None:
        self._connection.close()
