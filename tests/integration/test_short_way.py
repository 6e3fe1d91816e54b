"""The short way of a drain: when it is taken, and what it leaves alone."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from structlog.testing import capture_logs

from creditsd.config.settings import Settings
from tests.conftest import PATIENCE_SECONDS, Database
from tests.integration.line import OTHER, TURN, USER, Line, MemorySink, configured, installed, said, user
from tests.integration.play import ADD, Session
from tests.integration.running import running
from tests.servers import REFERENCE_TABLE

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
SPEND = "UPDATE user_credits SET credits = credits - 1"


async def test_a_user_is_drained_the_short_way_where_nothing_else_is_asked_for(
    line: Line, application: Session
) -> None:
    await application.execute(ADD, [USER, 10])
    await line.settle()
    await application.execute(SPEND)
    with capture_logs() as logs:
        found = await line.change_reader._drain_few()
    assert found is not None
    assert [said(total, "user_id", "credits", "cause") for total in found.totals] == [(USER, 9, "change")]
    assert logs == []


@pytest.mark.parametrize(
    ("asked", "causes"),
    [
        ("INSERT INTO creditsd.resyncs (cause) VALUES ('backfill')", []),
        ("INSERT INTO creditsd.repairs (user_id) SELECT user_id FROM user_credits", ["repair"]),
        ("UPDATE user_credits SET credits = credits - 1", ["change"]),
        (
            "INSERT INTO user_credits (user_id, credits) SELECT gen_random_uuid(), 1 FROM generate_series(1, 5)",
            ["change"] * 5,
        ),
    ],
)
async def test_whatever_is_asked_for_is_seen_by_the_very_next_drain(
    line: Line, application: Session, asked: str, causes: list[str]
) -> None:
    await application.execute(ADD, [USER, 10])
    await line.settle()
    await application.execute(SPEND)
    await line.change_reader.drain(2000)
    assert line.change_reader._until_few == 0  # it takes the short way where it can
    await application.execute(asked.encode())
    drained = await line.change_reader.drain(2000)
    assert [total.cause for total in drained.totals] == causes
    assert drained.page["resyncing"] == ("backfill" if not causes else None)


async def test_where_history_is_kept_there_is_no_short_way(database: Database) -> None:
    database.run(REFERENCE_TABLE)
    async with Line.settled(await installed(database, history={"days": 1})) as line:
        database.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 10, 'active')", [USER])
        await line.settle()
        database.run("UPDATE user_credits SET credits = 9")
        assert [total.credits for total in await line.settle()] == [9]
        assert database.run("SELECT credits FROM creditsd.history ORDER BY version") == [(10,), (9,)]


async def test_a_version_that_somebody_else_gave_is_never_given_again(line: Line, application: Session) -> None:
    await application.execute(ADD, [USER, 10])
    await application.execute(ADD, [OTHER, 10])
    await line.settle()
    ahead = 2 * 10**15
    await application.execute("UPDATE creditsd.balances SET version = %s WHERE user_id = %s", [ahead, OTHER])
    await application.execute("UPDATE user_credits SET credits = 9 WHERE user_id = %s", [USER])
    found = await line.change_reader._drain_few()
    assert found is not None
    assert [total.version for total in found.totals] == [ahead + 1]


async def test_an_end_that_came_nearer_is_known_to_the_next_drain(line: Line, application: Session) -> None:
    await application.execute(ADD, [USER, 10])
    await application.execute("UPDATE user_credits SET expires_at = now() + interval '2 days'")
    await line.settle()
    await application.execute("UPDATE user_credits SET expires_at = now() + interval '1 day'")
    first = (await line.change_reader.drain(2000)).page["due_seconds"]
    await application.execute("UPDATE user_credits SET expires_at = now() + interval '3 days'")
    second = (await line.change_reader.drain(2000)).page["due_seconds"]
    third = (await line.change_reader.drain(2000)).page["due_seconds"]
    assert [round(seconds / 86400) for seconds in (first, second, third)] == [1, 3, 3]


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


async def test_whoever_was_due_is_not_due_for_ever(line: Line, application: Session) -> None:
    await application.execute(ADD, [USER, 10])
    await application.execute("UPDATE user_credits SET expires_at = now() + interval '5 days'")
    await line.settle()
    await application.execute("UPDATE creditsd.balances SET recheck_at = now() - interval '1 second'")
    line.change_reader._until_few = 0
    seconds = []
    for _ in range(2):
        seconds.append((await line.change_reader.drain(2000)).page["due_seconds"])
        await line.recomputer.recompute_due(2000)
    seconds.append((await line.change_reader.drain(2000)).page["due_seconds"])
    assert seconds[0] < 0
    assert [round(each / 86400) for each in seconds[1:]] == [5, 5]


async def test_a_daemon_that_drains_the_short_way_tells_each_end_as_it_comes(
    installation: Database, settings: Settings
) -> None:
    sink = MemorySink()
    async with running(settings, sink):
        installation.run(ADD, [USER, 10])
        installation.run(ADD, [OTHER, 20])
        await sink.until_credits(USER, 10)
        await sink.until_credits(OTHER, 20)
        for name, after in ((USER, 0.3), (OTHER, 0.6)):
            installation.run(
                "UPDATE user_credits SET expires_at = now() + make_interval(secs => %s) WHERE user_id = %s",
                [after, name],
            )
        await sink.until_credits(USER, 0)
        await sink.until_credits(OTHER, 0)


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


@pytest.mark.parametrize(
    "asked",
    [
        "INSERT INTO creditsd.resyncs (cause) VALUES ('backfill')",
        "INSERT INTO creditsd.repairs (user_id) SELECT user_id FROM user_credits",
        "INSERT INTO creditsd.problems (user_id, problem, reason) SELECT user_id, 'not summed', 'x' FROM user_credits",
        "INSERT INTO user_credits (user_id, credits) SELECT gen_random_uuid(), 1 FROM generate_series(1, 5)",
        f"BEGIN; SELECT pg_advisory_xact_lock({TURN})",
    ],
)
async def test_a_refusal_has_stored_nothing(
    line: Line, installation: Database, application: Session, asked: str
) -> None:
    await application.execute(ADD, [USER, 10])
    await line.settle()
    await application.execute(SPEND)
    await application.execute(asked.encode())
    before = installation.run(EVERYTHING)
    assert await line.change_reader._drain_few() is None
    assert installation.run(EVERYTHING) == before
    await application.rollback()
