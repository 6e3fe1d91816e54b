"""A sink that is taken out of the configuration, and later put back."""

from __future__ import annotations

from functools import partial

from creditsd.config.settings import Settings
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, MemorySink, user
from tests.integration.running import running

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"
SET = "UPDATE user_credits SET credits = %s WHERE user_id = %s"
WAITING = "SELECT user_id::text FROM creditsd.deliveries WHERE sink = 'memory-2'"
CURSORS_AGREE = "SELECT count(DISTINCT cursor) = 1 FROM creditsd.sinks"


async def test_a_sink_that_is_put_back_is_told_the_newest_total_of_whoever_changed_and_keeps_its_refusals(
    installation: Database, settings: Settings
) -> None:
    first, second = MemorySink(), MemorySink()
    second.refuses = {OTHER}
    for each in (USER, OTHER, user(3)):
        installation.run(ADD, [each, 1])
    async with running(settings, first, second):
        await second.until(lambda: len(second.newest) == 2)
        await first.until_credits(user(3), 1)
        await eventually(partial(_read, installation, WAITING), lambda found: found == [(OTHER,)])
    async with running(settings, first):
        for amount in (2, 3, 4):
            installation.run(SET, [amount, USER])
            await first.until_credits(USER, amount)
    assert installation.run(WAITING) == [(OTHER,)]
    again = MemorySink()
    installation.run("UPDATE creditsd.deliveries SET next_at = now()")
    async with running(settings, first, again):
        await again.until(lambda: len(again.newest) == 2)
        await eventually(partial(_read, installation, WAITING), lambda found: not found)
        await eventually(partial(_read, installation, CURSORS_AGREE), lambda found: found == [(True,)])
    assert sorted((total.user_id, int(total.credits)) for total in again.totals) == [(USER, 4), (OTHER, 1)]


async def _read(database: Database, query: str) -> list[tuple[object, ...]]:
    return list(database.run(query))
