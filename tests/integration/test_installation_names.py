"""What an installation may be called: whatever passes the check works, and what would not is refused."""

from __future__ import annotations

import asyncio
from functools import partial

from creditsd.config.types import _RESERVED
from creditsd.schema import install as schema
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, MemorySink, configured
from tests.integration.running import running, until

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"
HUGE = "9" * 131_072  # the largest whole number that numeric holds; two of them are beyond it


def test_every_word_that_postgresql_would_read_otherwise_is_refused(database: Database) -> None:
    words = database.run("SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T', 'C')")
    assert {word for (word,) in words} - _RESERVED == set()


async def test_a_name_that_is_an_extensions_prefix_of_settings_is_like_any_other(reference_table: Database) -> None:
    settings = configured(reference_table, schema="plpgsql")
    reference_table.run("ALTER TABLE user_credits ALTER credits TYPE numeric")
    await schema.install(settings)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        await until(daemon, "state", "leading")
        for user_id, amount in ((USER, HUGE), (USER, HUGE), (OTHER, 5)):
            reference_table.run(ADD, [user_id, amount])
        reference_table.run("UPDATE user_credits SET created_at = now()")
        await sink.until_credits(OTHER, 5)
        problems = "SELECT user_id::text, problem FROM plpgsql.problems"
        await eventually(partial(asyncio.to_thread, reference_table.run, problems), [(USER, "not summed")].__eq__)
