"""Totals that time changes, rows that somebody holds, and recomputes that meet or are cut short."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from creditsd.admin.inspect import Inspector
from creditsd.config.settings import Settings
from tests.conftest import Database, eventually
from tests.integration.line import ADVISORY, OTHER, USER, Line, MemorySink, configured, installed, said, user
from tests.integration.running import running, until

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"
ADD_PACK = "INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES (%s, %s, 'active', 'one_time')"
ADD_UNTIL = "INSERT INTO user_credits (user_id, credits, status, expires_at) VALUES (%s, %s, 'active', %s)"


async def statuses(database: Database, user_id: str = USER) -> list[str]:
    rows = database.run("SELECT status FROM user_credits WHERE user_id = %s ORDER BY id", [user_id])
    return [str(status) for (status,) in rows]


async def recheck(line: Line, user_id: str) -> timedelta | None:
    """In how long time alone may change a total, as stored."""
    rows = await line.connection.execute(
        "SELECT recheck_at - now() FROM creditsd.balances WHERE user_id = %s", [user_id]
    )
    found: list[tuple[timedelta | None]] = await rows.fetchall()
    return found[0][0]


# Time.


async def test_a_total_that_time_changes_is_published_when_it_does(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        await until(daemon, "state", "leading")
        # Late enough for a busy machine to have read all of them before the first one ends.
        ends = {user(number): datetime.now(UTC) + timedelta(seconds=5 + number * 0.2) for number in range(4)}
        for name, end in ends.items():
            installation.run(ADD_UNTIL, [name, 5, end])
        for name, end in ends.items():
            total = await sink.until_credits(name, 0)
            late = datetime.now(UTC) - end
            assert timedelta(0) <= late < timedelta(seconds=10), "nothing else would look for half a minute"
            assert said(total, "cause", "membership_status", "expires_at") == ("expiry", "expired", None)
            assert await statuses(installation, name) == ["active"]


async def test_an_end_that_is_brought_forward_or_put_off_is_kept(installation: Database, settings: Settings) -> None:
    sink = MemorySink()
    async with running(settings, sink):
        far = datetime.now(UTC) + timedelta(hours=1)
        installation.run(ADD_UNTIL, [USER, 5, far])
        installation.run(ADD_UNTIL, [OTHER, 5, datetime.now(UTC) + timedelta(seconds=0.4)])
        await sink.until_credits(USER, 5)
        installation.run("UPDATE user_credits SET expires_at = %s WHERE user_id = %s", [far, OTHER])
        installation.run("UPDATE user_credits SET expires_at = now() + interval '0.6 s' WHERE user_id = %s", [USER])
        await sink.until_credits(USER, 0)
        assert sink.newest[OTHER].credits == 5


async def test_the_end_is_exclusive(installation: Database, settings: Settings) -> None:
    async with Line.settled(settings) as line:
        installation.run(ADD_UNTIL, [USER, 5, datetime(2030, 1, 1, tzinfo=UTC)])
        query = "SELECT credits, changes_at FROM creditsd.totals(ARRAY[%s::uuid], %s, 'always', 'on')"
        for instant, credits_ in (("2029-12-31 23:59:59.999999+00", 5), ("2030-01-01 00:00:00+00", 0)):
            rows = await (await line.connection.execute(query, [USER, instant])).fetchall()
            assert rows[0][0] == credits_


async def test_the_earliest_of_several_ends_is_looked_at_first(installation: Database, settings: Settings) -> None:
    async with Line.settled(settings) as line:
        for minutes in (30, 10, 20):
            installation.run(ADD_UNTIL, [USER, minutes, datetime.now(UTC) + timedelta(minutes=minutes)])
        (total,) = await line.settle()
        assert total.credits == 60
        interval = await recheck(line, USER)
        assert interval is not None
        assert timedelta(minutes=9) < interval <= timedelta(minutes=10)
        page = (await line.change_reader.drain(10)).page
        assert 540 < page["due_seconds"] <= 600


async def test_many_whose_time_has_come_are_done_in_pages(installation: Database, settings: Settings) -> None:
    async with Line.settled(settings) as line:
        for number in range(7):
            installation.run(ADD_UNTIL, [user(number), 5, datetime.now(UTC) + timedelta(minutes=number + 1)])
        await line.settle()
        installation.run("ALTER TABLE user_credits DISABLE TRIGGER creditsd_update")
        try:
            installation.run("UPDATE user_credits SET expires_at = expires_at - interval '1 hour'")
        finally:
            installation.run("ALTER TABLE user_credits ENABLE ALWAYS TRIGGER creditsd_update")
        installation.run("UPDATE creditsd.balances SET recheck_at = recheck_at - interval '1 hour'")
        seen = []
        for size in (3, 3, 1):
            found = await line.recomputer.recompute_due(3)
            assert (len(found.totals), found.page["users"]) == (size, size)
            seen += [total.user_id for total in found.totals]
        assert sorted(seen) == [user(number) for number in range(7)]
        assert (await line.recomputer.recompute_due(3)).page == {"users": 0, "due_seconds": None}


# Auto-expire beside the application.


async def test_a_row_somebody_holds_is_expired_later_without_another_change(
    installation: Database, settings: Settings
) -> None:
    async with Line.settled(settings) as line, installation.connect() as holder:
        installation.run(ADD_PACK, [USER, 0])
        async with holder.transaction():
            await holder.execute("SELECT FROM user_credits FOR UPDATE")
            async with asyncio.timeout(60):  # never waits
                (total,) = await line.settle()
            assert said(total, "credits", "membership_status") == (0, "expired")
            assert await statuses(installation) == ["active"]
            interval = await recheck(line, USER)
            assert interval is not None
            assert interval <= timedelta(seconds=1)
        assert await line.marked() == []

        async def again() -> list[str]:
            assert await line.settle() == []
            return await statuses(installation)

        await eventually(again, lambda found: found == ["expired"])
        assert await recheck(line, USER) is None


async def test_a_table_that_refuses_the_expired_status_stops_nothing(reference_table: Database) -> None:
    reference_table.run("ALTER TABLE user_credits ADD CHECK (status <> 'expired')")
    settings = await installed(reference_table)
    async with Line.settled(settings) as line:
        reference_table.run(ADD_PACK, [USER, 0])
        reference_table.run(ADD, [OTHER, 7])
        totals = {total.user_id: total for total in await line.settle()}
        assert said(totals[USER], "credits", "membership_status") == (0, "expired")
        assert totals[OTHER].credits == 7
        assert await statuses(reference_table) == ["active"]
        # Not again at once, but not later than the next end either.
        interval = await recheck(line, USER)
        assert interval is not None
        assert timedelta(seconds=30) < interval <= timedelta(minutes=1)
        reference_table.run(ADD_UNTIL, [USER, 5, datetime.now(UTC) + timedelta(seconds=20)])
        assert [total.credits for total in await line.settle()] == [5]
        interval = await recheck(line, USER)
        assert interval is not None
        assert interval <= timedelta(seconds=20)
        reference_table.run("ALTER TABLE user_credits DROP CONSTRAINT user_credits_status_check")
        await line.connection.execute("UPDATE creditsd.balances SET recheck_at = now() WHERE user_id = %s", [USER])
        await line.settle()
        assert await statuses(reference_table) == ["expired", "active"]


async def test_a_trigger_of_the_application_that_raises_stops_nothing(reference_table: Database) -> None:
    reference_table.run(
        """
        CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not on my watch'; END $$;
        CREATE TRIGGER never BEFORE UPDATE ON user_credits FOR EACH ROW EXECUTE FUNCTION never();
        """
    )
    settings = await installed(reference_table)
    async with Line.settled(settings) as line:
        reference_table.run(ADD_PACK, [USER, 0])
        reference_table.run(ADD, [OTHER, 7])
        assert len(await line.settle()) == 2
        assert await line.stored() == {USER: 0, OTHER: 7}


async def test_a_table_that_is_locked_makes_us_wait_for_the_totals_and_not_for_ever(
    installation: Database, settings: Settings
) -> None:
    sink = MemorySink()
    async with running(settings, sink) as daemon, installation.connect() as holder:
        installation.run(ADD, [USER, 1])
        await sink.until_credits(USER, 1)
        async with holder.transaction():
            await holder.execute(ADD, [USER, 1])
            await holder.execute("LOCK TABLE user_credits IN ACCESS EXCLUSIVE MODE")
            installation.run("INSERT INTO creditsd.changes (user_id) VALUES (%s)", [USER])
            assert daemon.health()["alive"]
        await sink.until_credits(USER, 2)


async def test_auto_expire_is_told_in_the_dry_run_and_done_when_that_ends(installation: Database) -> None:
    with capture_logs() as logs:
        async with Line.settled(configured(installation, expire_empty="dry_run")) as line:
            installation.run(ADD_PACK, [USER, 0])
            await line.settle()
            assert await statuses(installation) == ["active"]
    assert [event for event in logs if "would expire" in str(event)]
    async with Line.opened(configured(installation)) as line:
        assert line.resumption.resyncing == "policy changed"
        (total,) = await line.settle()
        assert said(total, "membership_status", "cause") == ("expired", "auto-expire")
    assert await statuses(installation) == ["expired"]


# Recomputes that meet.


async def test_of_two_recomputes_the_later_one_reads_later(installation: Database, settings: Settings) -> None:
    installation.run(ADD, [USER, 1])
    async with Line.settled(settings) as one, Line.opened(settings) as other:
        async with one.connection.transaction():
            await one.recomputer.recompute([USER], cause="repair", republish=True)
            late = asyncio.create_task(other.recomputer.recompute([USER], cause="repair", republish=False))

            async def waits() -> Any:
                return installation.run(f"SELECT {ADVISORY} AND NOT granted")

            await eventually(waits)
            installation.run("UPDATE user_credits SET credits = 2")
        assert [total.credits for total in (await late).totals] == [2]
        assert await one.stored() == {USER: 2}


async def test_concurrent_recomputes_of_one_user_end_at_the_truth(installation: Database, settings: Settings) -> None:
    installation.run(ADD, [USER, 0])
    async with Line.settled(settings) as one, Line.opened(settings) as other, installation.connect() as application:
        seen: list[tuple[int, Any]] = []

        async def recompute(line: Line) -> None:
            for _ in range(30):
                found = await line.recomputer.recompute([USER, OTHER], cause="repair", republish=False)
                seen.extend((total.version, total.credits) for total in found.totals if total.user_id == USER)

        async def spend() -> None:
            for _ in range(30):
                await application.execute("UPDATE user_credits SET credits = credits + 1")

        await asyncio.gather(recompute(one), recompute(other), spend())
        await one.recomputer.recompute([USER], cause="repair", republish=False)
        assert (await one.stored())[USER] == 30
        amounts = [amount for _, amount in sorted(seen)]
        assert amounts == sorted(amounts)
        assert len({version for version, _ in seen}) == len(seen)


async def test_republishing_gives_new_versions_to_unchanged_totals(installation: Database, settings: Settings) -> None:
    installation.run(ADD, [USER, 1])
    async with Line.opened(settings) as line:
        (first,) = await line.settle()
        (again,) = (await line.recomputer.recompute([USER], cause="repair", republish=True)).totals
        assert again.version > first.version
        assert said(again, "credits", "cause") == (1, "repair")
        assert await line.recomputer.recently_published(first.version - 1, 10) == [USER]


async def test_a_user_without_rows_is_no_news_until_somebody_asks_for_it(
    installation: Database, settings: Settings
) -> None:
    async with Line.settled(settings) as line:
        assert (await line.recomputer.recompute([USER], cause="repair", republish=False)).totals == []
        (total,) = (await line.recomputer.recompute([USER], cause="repair", republish=True)).totals
        assert said(total, "membership_status", "credits") == ("none", 0)
        assert (await line.recomputer.recompute([USER], cause="repair", republish=False)).totals == []


# Everyone.


async def test_a_resync_goes_on_where_it_was_cut_short(installation: Database, settings: Settings) -> None:
    for number in range(10):
        installation.run(ADD, [user(number), 1])
    async with Line.opened(settings) as line:
        for _ in range(2):
            assert len((await line.recomputer.resync_next(3)).totals) == 3
    async with Line.opened(settings) as line:
        assert (line.resumption.resyncing, line.resumption.resynced_after) == ("first start", user(5))
        published = await line.settle()
        assert {total.user_id for total in published} == {user(number) for number in range(6, 10)}
    async with Line.opened(settings) as line:
        assert line.resumption.resyncing is None


async def test_a_resync_finds_those_who_have_no_rows_any_more(installation: Database, settings: Settings) -> None:
    for number in range(5):
        installation.run(ADD, [user(number), 1])
    async with Line.settled(settings) as line:
        installation.run("ALTER TABLE user_credits DISABLE TRIGGER creditsd_delete")
        try:
            installation.run("DELETE FROM user_credits WHERE user_id <> %s", [user(2)])
        finally:
            installation.run("ALTER TABLE user_credits ENABLE ALWAYS TRIGGER creditsd_delete")
        await line.connection.execute("SELECT creditsd.begin_resync('backfill')")
        published = await line.settle(max_users=2)
        assert [total.user_id for total in published] == [user(0), user(1), user(3), user(4)]
        assert {total.cause for total in published} == {"backfill"}


async def test_a_change_during_a_resync_is_not_lost(installation: Database, settings: Settings) -> None:
    for number in range(6):
        installation.run(ADD, [user(number), 1])
    async with Line.opened(settings) as line:
        await line.recomputer.resync_next(3)
        installation.run("UPDATE user_credits SET credits = 2 WHERE user_id IN (%s, %s)", [user(1), user(5)])
        installation.run(ADD, [user(7), 1])
        await line.settle(max_users=2)
        expected = {user(number): 2 if number in (1, 5) else 1 for number in (0, 1, 2, 3, 4, 5, 7)}
        assert await line.stored() == expected


async def test_a_second_request_begins_the_resync_again(installation: Database, settings: Settings) -> None:
    for number in range(4):
        installation.run(ADD, [user(number), 1])
    async with Line.opened(settings) as line:
        await line.recomputer.resync_next(3)
        installation.run("TRUNCATE user_credits")
        await line.settle(max_users=3)
        assert set((await line.stored()).values()) == {0}


@pytest.mark.parametrize("changed", [{"can_buy": "always"}, {"expire_empty": "off"}])
async def test_another_policy_recomputes_everyone(
    installation: Database, settings: Settings, changed: dict[str, str]
) -> None:
    installation.run(ADD, [USER, 1])
    async with Line.settled(settings):
        pass
    for policy in (configured(installation, **changed), settings):
        async with Line.opened(policy) as line:
            assert line.resumption.resyncing == "policy changed"
            await line.settle()
        async with Line.opened(policy) as line:
            assert line.resumption.resyncing is None


async def test_users_are_counted_for_the_bar(installation: Database, settings: Settings) -> None:
    for number in range(4):
        installation.run(ADD, [user(number % 3), 1])
    async with Line.opened(settings) as line:
        assert await line.recomputer.count_users() == 3


@pytest.mark.parametrize("led", [False, True])
async def test_a_backfill_reaches_everyone_with_or_without_a_daemon(
    installation: Database, settings: Settings, led: bool
) -> None:
    async def backfill() -> None:
        installation.run("ALTER TABLE user_credits DISABLE TRIGGER creditsd_insert")
        try:
            for number in range(5):
                installation.run(ADD, [user(number), 1])
        finally:
            installation.run("ALTER TABLE user_credits ENABLE ALWAYS TRIGGER creditsd_insert")
        told: list[tuple[int, int, bool]] = []
        async with Inspector.opened(settings, purpose="backfill") as inspector:
            assert await inspector.backfill(lambda *step: told.append(step)) is led
        assert told[-1] == (5, 5, True)
        assert installation.run("SELECT count(*) FROM creditsd.balances WHERE credits = 1") == [(5,)]

    if not led:
        return await backfill()
    async with running(settings, MemorySink()) as daemon:

        async def leads() -> object:
            return daemon.health()["state"]

        await eventually(leads, lambda state: state == "leading")
        began = time.monotonic()
        await backfill()
        assert time.monotonic() - began < 60
    return None


async def test_a_reader_that_was_deposed_writes_nothing(installation: Database, settings: Settings) -> None:
    async with Line.settled(settings) as line:
        installation.run(ADD, [USER, 1])
        installation.run("SELECT pg_terminate_backend(%s)", [line.connection.info.backend_pid])
        with pytest.raises(Exception, match="terminat") as ended:
            await line.settle()
        assert isinstance(ended.value.__cause__, psycopg.OperationalError)
    assert installation.run("SELECT count(*) FROM creditsd.balances") == [(0,)]
