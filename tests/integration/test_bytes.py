"""A database of no encoding (SQL_ASCII) may hold bytes that are no text: nobody's total waits for them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import Line, configured
from tests.servers import Reachable

TABLE = (
    "CREATE TABLE user_credits (user_id text, credits int, status text, plan_type text, membership text, extra json)"
)
BYTES = "x\xff\xfe\\"
SHOWN = r"x\377\376" + "\\" * 2
PROBLEMS = "SELECT user_id, problem, reason FROM creditsd.problems"


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
