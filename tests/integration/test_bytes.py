"""A database of no encoding (SQL_ASCII) may hold bytes that are no text: nobody's total waits for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import Line, MemorySink, configured, installed
from tests.integration.running import running, until
from tests.servers import Reachable

TABLE = (
    "CREATE TABLE user_credits (user_id text, credits int, status text, plan_type text, membership text, extra json)"
)
BYTES = "x\xff\xfe\\"
SHOWN = r"x\377\376" + "\\" * 2
CHANNELS = ("creditsd", "creditsd_lead", "creditsd_doctor")
PROBLEMS = "SELECT user_id, problem, reason FROM creditsd.problems"


@pytest.fixture(params=["WIN1252", "EUC_JP"])
def encoded(request: pytest.FixtureRequest, postgres_server: Reachable) -> Iterator[Database]:
    """A database of an encoding with letters that UTF-8 has none for."""
    name = f"letters_{os.getpid()}_{postgres_server.version}"
    with postgres_server.connect() as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING '{request.param}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    yield Database(postgres_server, name, postgres_server.dsn(name))
    postgres_server.drop_database(name)


@pytest.fixture
def unencoded(postgres_server: Reachable) -> Iterator[Database]:
    """A database of no encoding, to which text of latin-1 goes byte by byte."""
    name = f"bytes_{os.getpid()}_{postgres_server.version}"
    with postgres_server.connect() as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    yield Database(postgres_server, name, postgres_server.dsn(name, client_encoding="latin1"))
    postgres_server.drop_database(name)


async def test_bytes_that_are_no_text_stop_nobody(unencoded: Database) -> None:
    unencoded.run(TABLE)
    plain = Database(unencoded.server, unencoded.name, unencoded.server.dsn(unencoded.name))
    settings = configured(plain, source={"columns": {"subscription_id": "extra"}})
    await schema.install(settings)
    async with Line.settled(settings) as line:
        for row in (
            ("words", 1, "active", "subscription", BYTES, None),
            ("status", 2, BYTES, "subscription", None, None),
            ("plan", 3, "active", BYTES, None, None),
            ("cut", 4, "active", None, "x" + "\xc3\xa4" * 600, None),
            ("json", 5, "active", None, None, f'"{BYTES[:-1]}"'),
            (BYTES, 6, "active", None, None, None),
            ("even", 7, "active", None, "\xf0\x9f\x98\x80 \xe2\x82\xac", None),
        ):
            unencoded.run("INSERT INTO user_credits VALUES (%s, %s, %s, %s, %s, %s)", row)
        told = {
            each.user_id: (int(each.credits), each.membership, each.subscription_id) for each in await line.settle()
        }
        assert told == {
            "words": (1, SHOWN, None),
            "status": (0, None, None),
            "plan": (3, None, None),
            "cut": (4, "x" + "ä" * 499 + "...", None),
            "json": (5, None, r'"x\377\376"'),
            "even": (7, "😀 €", None),
        }
        await line.connection.execute("SELECT creditsd.begin_resync('test')")
        assert await line.settle() == []
        problems = await (await line.connection.execute(PROBLEMS)).fetchall()
        assert problems == [(SHOWN, "not summed", "an id of bytes that are no UTF-8")]
        unencoded.run("DELETE FROM user_credits WHERE user_id = %s OR user_id = 'even'", [BYTES])
        assert [(each.user_id, int(each.credits)) for each in await line.settle()] == [("even", 0)]


async def test_bytes_that_strangers_ring_with_end_no_session_and_drown_no_ring(unencoded: Database) -> None:
    await rung_in_vain(Database(unencoded.server, unencoded.name, unencoded.server.dsn(unencoded.name)), "\\xff")


async def test_letters_that_utf_8_has_none_for_end_no_session_either(encoded: Database) -> None:
    ((encoding,),) = encoded.run("SHOW server_encoding")
    await rung_in_vain(encoded, {"WIN1252": "\\x81", "EUC_JP": "\\xf4fe"}[str(encoding)])


async def rung_in_vain(database: Database, letter: str) -> None:
    """Have strangers ring with a letter, at whoever listens, and see that nobody heeds it, or misses what is ours."""
    database.run(TABLE)
    settings, sink = await installed(database), MemorySink()
    async with running(settings, sink) as daemon:
        await until(daemon, "doorbell", "asleep")
        async with running(settings, MemorySink()) as standby:
            await until(standby, "state", "standby")
            before = sessions(database)
            with capture_logs() as logs:
                for number in range(20):
                    await rung_with(database, letter, number)
                    await sink.until_credits(f"user {number}", number)
                    await until(daemon, "doorbell", "asleep")
            assert [each for each in logs if each["log_level"] != "debug"] == []
            assert sessions(database) == before
            assert standby.health()["state"] == "standby"


async def rung_with(database: Database, letter: str, number: int) -> None:
    """Write between rings with a letter, in one transaction: they come together."""
    async with await psycopg.AsyncConnection.connect(database.dsn, client_encoding="sql_ascii") as stranger:
        for side in ("before", "after"):
            for channel in CHANNELS:
                said = f"convert_from('{letter}'::bytea, getdatabaseencoding()) || '{side} {number}'"
                await stranger.execute(f"SELECT pg_notify('{channel}', {said})".encode())
            if side == "before":
                await stranger.execute(
                    f"INSERT INTO user_credits VALUES ('user {number}', {number}, 'active')".encode()
                )


def sessions(database: Database) -> list[tuple[Any, ...]]:
    """Those of the daemons that listen."""
    return database.run(
        "SELECT application_name, pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name IN ('creditsd leader', 'creditsd doorbell') ORDER BY 1, 2"
    )
