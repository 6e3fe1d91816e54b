"""The disk is full: PostgreSQL says so to the application, and once there is room everything goes on by itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database, eventually
from tests.faults.load import fill
from tests.faults.test_upgrades import documents
from tests.faults.truth import wrong_among
from tests.integration.line import MemorySink, installed
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE, Postgres
from tests.workshop import Account, workshop

USERS = 50
MORE = """
INSERT INTO public.user_credits (user_id, credits, status)
SELECT user_id, 1, 'active' FROM public.user_credits LIMIT 1000
"""


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 48 MB, which the server may write to."""
    account = Account.needed()
    path = workshop().place("disk", account)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a small disk")
    try:
        if account is not None:
            os.chown(path, account.uid, account.gid)
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True, capture_output=True)


def write_until_full(database: Database) -> None:
    """Write as the application does until the disk is full; the error is PostgreSQL's own."""

    def write() -> None:
        while True:
            database.run(MORE)

    with pytest.raises(psycopg.errors.DiskFull):
        write()


async def test_a_full_disk_is_postgresqls_own_error_and_once_there_is_room_all_goes_on(
    own_postgres: Callable[..., Postgres], small_disk: Path
) -> None:
    server = await asyncio.to_thread(own_postgres)
    with server.connect() as connection:
        connection.autocommit = True
        connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'".encode())
        connection.execute("CREATE DATABASE app TABLESPACE small")
    database = Database(server, "app", server.dsn("app"))
    database.run(REFERENCE_TABLE)
    fill(database.dsn, USERS)
    settings, sink = await installed(database), MemorySink()
    ballast = small_disk / "ballast"
    wrong = partial(told_wrongly, database, sink)

    async with running(settings, sink) as daemon:
        await eventually(wrong, lambda found: found == {})
        for room in (0, 2**20):
            free = os.statvfs(small_disk)
            ballast.write_bytes(bytes(max(free.f_bavail * free.f_frsize - room, 0)))
            await asyncio.to_thread(write_until_full, database)
            await asyncio.to_thread(write_until_full, database)
            ballast.unlink()
            database.run("UPDATE public.user_credits SET credits = credits + 1")
            await eventually(wrong, lambda found: found == {})
            await until(daemon, "state", "leading")


async def told_wrongly(database: Database, sink: MemorySink) -> object:
    """Compare what a sink was told with the table."""
    return await wrong_among(database.dsn, documents(sink))


def keep_wal_on(server: Postgres, disk: Path) -> None:
    """Move the server's WAL there."""
    with server.connect() as connection:
        data = Path(str(connection.execute("SHOW data_directory").fetchall()[0][0]))
    server.stop()
    subprocess.run(["cp", "-a", data / "pg_wal", disk], check=True)  # with whose they are
    shutil.rmtree(data / "pg_wal")
    (data / "pg_wal").symlink_to(disk / "pg_wal")
    server.start()


async def test_a_disk_that_is_full_of_wal_ends_postgresql_and_once_it_is_started_with_room_all_goes_on(
    own_postgres: Callable[..., Postgres], small_disk: Path
) -> None:
    # Where it cannot log PostgreSQL ends itself, and whoever is connected: no write of anybody's is stored.
    server = await asyncio.to_thread(own_postgres, min_wal_size="32MB", max_wal_size="1GB", checkpoint_timeout="1h")
    database = Database(server, "postgres", server.dsn())
    database.run(REFERENCE_TABLE)
    fill(database.dsn, USERS)
    await asyncio.to_thread(keep_wal_on, server, small_disk)
    settings, sink = await installed(database), MemorySink()
    ballast = small_disk / "ballast"
    wrong = partial(told_wrongly, database, sink)

    async with running(settings, sink) as daemon:
        await eventually(wrong, lambda found: found == {})
        free = os.statvfs(small_disk)
        ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - 2**20))
        await asyncio.to_thread(write_until_it_ends, database)
        assert "No space left on device" in server.log
        ballast.unlink()
        await asyncio.to_thread(server.restart, "immediate")
        database.run("UPDATE public.user_credits SET credits = credits + 1")
        await eventually(wrong, lambda found: found == {})
        await until(daemon, "state", "leading")


def write_until_it_ends(database: Database) -> None:
    """Write as the application does until PostgreSQL is gone."""

    def write() -> None:
        while True:
            database.run(MORE)

    with pytest.raises(psycopg.OperationalError):
        write()
