"""The server: its version, whether it takes writes, its clock, its queue of notifications, and its connections."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from creditsd.admin.doctor.finding import Finding, good, note, problem
from creditsd.config.settings import Settings
from creditsd.postgres import sql_files
from creditsd.postgres.budget import connections_needed
from creditsd.postgres.connections import Connection, is_shared, row
from creditsd.schema.source_table import MIN_SERVER_VERSION

OLDEST, NEWEST = MIN_SERVER_VERSION // 10_000, 18  # of PostgreSQL, as they are tested
CLOCK_SECONDS = 2.0
CROWDED_QUEUE = 0.1


async def examine(connection: Connection, settings: Settings) -> Sequence[Finding]:
    """Look at the server that `dsn` leads to."""
    asked_at = time.time()
    found = await row(connection, sql_files.sql("queries/server_examined"))
    assert found is not None
    version, name, standby, clock, queue = found
    ahead = clock - (asked_at + time.time()) / 2
    return [
        *_version(version // 10_000, name),
        *_writable(standby),
        *_clock(ahead),
        *_queue(queue),
        *_way(connection, settings),
    ]


async def examine_connections(connection: Connection, settings: Settings) -> Sequence[Finding]:
    """Compare how many connections a daemon opens with how many this role may still open here."""
    found = await row(connection, sql_files.sql("queries/connections_free"))
    assert found is not None
    free, ours, limit = found
    needed = connections_needed(settings)
    missing = needed - ours - free
    if missing <= 0:
        return [good("connections", f"a daemon opens {needed} at most, {ours} of ours are open, {free} are free")]
    hint = f"raise {limit}, or have others open fewer: {missing} more are needed"
    return [problem("connections", f"a daemon opens {needed} at most, and {free} are free", hint)]


def _version(major: int, name: str) -> Iterator[Finding]:
    if major < OLDEST:
        yield problem("server", f"PostgreSQL {name} is too old", f"creditsd needs {OLDEST} or newer")
    elif major > NEWEST:
        yield note("server", f"PostgreSQL {name} is newer than what creditsd is tested with, which ends at {NEWEST}")
    else:
        yield good("server", f"PostgreSQL {name}")


def _writable(standby: bool) -> Iterator[Finding]:
    if standby:
        hint = "let dsn lead to the primary: name all hosts, and target_session_attrs=read-write"
        yield problem("server", "it is a standby, where nothing can be stored", hint)


def _clock(ahead: float) -> Iterator[Finding]:
    if abs(ahead) < CLOCK_SECONDS:
        yield good("clock", "the server's and this machine's agree")
        return
    said = f"the server's is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    yield problem("clock", said, "plans end by the server's, tokens by this machine's: have both follow NTP")


def _queue(usage: float) -> Iterator[Finding]:
    if usage < CROWDED_QUEUE:
        return
    hint = "a session of any database causes that which listens and has a transaction open: see pg_stat_activity"
    yield problem("server", f"its queue of notifications is {usage:.0%} full; a full one fails commits", hint)


def _way(connection: Connection, settings: Settings) -> Iterator[Finding]:
    if is_shared(connection) and settings.listen_dsn:
        yield good("pooler", "dsn leads through a transaction pooler, listen_dsn past it")
    elif is_shared(connection):
        hint = "set listen_dsn (CREDITSD_LISTEN_DSN) to a direct connection"
        yield problem("pooler", "dsn leads through a pooler, and nothing past it", hint)
