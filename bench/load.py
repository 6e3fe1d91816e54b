"""The reference table full of users, and pgbench writing to it."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.servers import REFERENCE_TABLE, Postgres

FLUSHES = {
    "ordinary": {"commit_delay": "0", "commit_siblings": "5"},
    # Every flush waits 1.5 ms more, as on an ordinary cloud disk.
    "slow": {"commit_delay": "1500", "commit_siblings": "0"},
    # A turning disk, or a network one that is short of operations.
    "very slow": {"commit_delay": "8000", "commit_siblings": "0"},
}

SERVER_SETTINGS = {
    "fsync": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "max_connections": "300",
    "shared_preload_libraries": "pg_stat_statements",
}

# A round that ends does not leave a value behind which the next one could not change again.
ONE_ROW = """\\set id random(1, {rows})
UPDATE public.user_credits SET credits = 1 + (credits + 7) % 1000 WHERE id = :id;
"""

# Each client has blocks of its own: what locks cost is not the question.
HUNDRED_ROWS = """\\set first :client_id * {rows} / {clients} + 100 * random(0, {rows} / {clients} / 100 - 1)
UPDATE public.user_credits SET credits = 1 + (credits + 7) % 1000 WHERE id > :first AND id <= :first + 100;
"""

EVERY_ROW = "UPDATE public.user_credits SET credits = 1 + (credits + 7) % 1000"

FILL = """
INSERT INTO public.user_credits (user_id, credits, status, plan_type, membership, subscription_id, expires_at)
SELECT
    md5((1 + n % {users})::text)::uuid,
    1 + n % 1000,
    'active',
    CASE WHEN n % 3 = 0 THEN 'subscription' ELSE 'one_time' END,
    CASE WHEN n % 3 = 0 THEN 'Pro' ELSE 'Pack' END,
    CASE WHEN n % 3 = 0 THEN 'sub_' || n END,
    CASE WHEN n % 3 = 0 THEN now() + interval '30 days' END
FROM generate_series(1, {rows}) AS n;
VACUUM ANALYZE public.user_credits;
"""


def fill(server: Postgres, name: str, *, rows: int, users: int) -> str:
    """Create a database with the reference table in it and return its connection string."""
    dsn = server.create_database(name)
    server.psql(REFERENCE_TABLE + FILL.format(rows=rows, users=users), dbname=name)
    return dsn


def flush(server: Postgres, kind: str) -> None:
    """Choose how long a flush takes, from now on and for every session."""
    for name, value in FLUSHES[kind].items():
        server.psql(f"ALTER SYSTEM SET {name} = {value}")
    server.psql("SELECT pg_reload_conf()")


def backend_seconds(server: Postgres, dbname: str) -> float:
    """Return the processor time backends have used so far, once every client of a database is gone.

    The postmaster is credited with a child's time when the child has ended. It moves in steps of 10 ms.
    """
    while server.connections(dbname):
        time.sleep(0.01)
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Writers:
    """So many clients, each changing one random row after the other, or a hundred rows at a time."""

    clients: int
    rows: int
    script: str = ONE_ROW

    def write(self, server: Postgres, dbname: str, seconds: float) -> float:
        """Write for a while and return the transactions per second, the time to connect not counted."""
        return self._pgbench(server, dbname, "-T", f"{seconds:.0f}")

    def microseconds(self, server: Postgres, dbname: str, each: int) -> float:
        """Let each client write so many times and return the backends' processor time per transaction."""
        begun = backend_seconds(server, dbname)
        self._pgbench(server, dbname, "-t", str(each))
        return (backend_seconds(server, dbname) - begun) * 1_000_000 / (each * self.clients)

    def _pgbench(self, server: Postgres, dbname: str, *length: str) -> float:
        with TemporaryDirectory() as directory:
            script = Path(directory) / "one_row.sql"
            script.write_text(self.script.format(rows=self.rows, clients=self.clients))
            report = server.pgbench(
                *("-n", "-M", "prepared", "-f", str(script), *length),
                *("-c", str(self.clients), "-j", str(min(self.clients, 2))),
                dbname=dbname,
            )
        failed = re.search(r"number of failed transactions: (\d+)", report)
        rate = re.search(r"^tps = ([\d.]+)", report, re.MULTILINE)
        if rate is None or (failed is not None and failed[1] != "0"):
            raise RuntimeError(f"pgbench failed:\n{report}")
        return float(rate[1])
