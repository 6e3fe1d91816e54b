"""The short way of a drain: when it is taken, and what it leaves alone."""

from __future__ import annotations

import asyncio
from functools import partial

from structlog.testing import capture_logs

from tests.conftest import PATIENCE_SECONDS, Database
from tests.integration.line import TURN, USER, Line, configured, said, user
from tests.integration.play import ADD, Session

# Every column, and the place of each row, which nobody writes without moving it.
EVERYTHING = """
SELECT
    (SELECT array_agg(b.ctid::text || b::text ORDER BY b.user_id) FROM creditsd.balances AS b),
    (SELECT array_agg(t.ctid::text || t::text ORDER BY t.id) FROM public.user_credits AS t),
    (SELECT array_agg(p.ctid::text || p::text ORDER BY p.user_id) FROM creditsd.problems AS p),
    (SELECT array_agg(c.ctid::text || c::text ORDER BY c.xid, c.user_id) FROM creditsd.changes AS c),
    (SELECT array_agg(r.ctid::text || r::text) FROM creditsd.reader AS r),
    (SELECT count(*) FROM creditsd.history)
"""
HUGE = "9" * 131_072  # the largest whole number that numeric holds; two of them are beyond it


async def test_an_idle_leader_waits_for_nobody_who_has_the_turn(line: Line, application: Session) -> None:
    await application.execute(ADD, [USER, 10])
    await line.settle()
    await application.execute("BEGIN")
    await application.execute(f"SELECT pg_advisory_xact_lock({TURN})".encode())
    async with asyncio.timeout(PATIENCE_SECONDS):
        drained = await line.change_reader.drain(2000)
    assert (drained.totals, drained.page["changes"]) == ([], 0)
    await application.rollback()


async def test_a_change_that_says_it_is_of_a_later_server_is_not_read_before_its_time(
    line: Line, application: Session
) -> None:
    await application.execute(ADD, [USER, 10])
    await line.settle()
    await application.execute(
        "INSERT INTO creditsd.changes (xid, user_id) "
        "VALUES ((pg_current_xact_id()::text::bigint + 1000000)::text::xid8, %s)",
        [USER],
    )
    for way in (line.change_reader._drain_few, partial(line.change_reader.drain, 2000)):
        drained = await way()
        assert drained is not None
        assert drained.page["changes"] == 0


async def test_where_the_rows_of_one_raise_nothing_of_the_short_way_stays(fractions: Database) -> None:
    plain, odd = user(1), user(2)
    async with Line.settled(configured(fractions)) as line:
        for name in (plain, odd):
            fractions.run(ADD, [name, 10])
        await line.settle()
        # An empty plan leaves the user to the general rules, which sum up what is beyond numeric.
        fractions.run(
            "INSERT INTO user_credits (user_id, credits, status, plan_type, expires_at) VALUES "
            "(%s, 0, 'active', 'one_time', NULL), "
            "(%s, %s, 'active', 'one_time', now() + interval '1 day'), "
            "(%s, %s, 'active', 'one_time', now() + interval '1 day')",
            [odd, odd, HUGE, odd, HUGE],
        )
        fractions.run("UPDATE user_credits SET credits = 9 WHERE user_id = %s", [plain])
        before = fractions.run(EVERYTHING)
        with capture_logs() as logs:
            assert await line.change_reader._drain_few() is None
        assert [(event["event"], event["log_level"]) for event in logs] == [("balances.attempt_failed", "info")]
        assert "overflow" in logs[0]["reason"]
        assert fractions.run(EVERYTHING) == before
        assert [said(total, "user_id", "credits") for total in await line.settle()] == [(plain, 9)]
        assert fractions.run("SELECT user_id::text, problem FROM creditsd.problems") == [(odd, "not summed")]
        fractions.run("DELETE FROM user_credits WHERE user_id = %s", [odd])
        assert [said(total, "user_id", "credits") for total in await line.settle()] == [(odd, 0)]
