"""The steps that led to each total: every one is kept, in daily partitions that come and go by themselves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from creditsd.config.settings import Settings
from creditsd.postgres.connections import connected
from creditsd.schema import install as schema
from creditsd.totals.history_partitions import HistoryPartitions
from tests.acceptance.command import creditsd, environment
from tests.conftest import Database, eventually
from tests.http.asking import KEY, bearer, http, token
from tests.integration.leading import leading, restricted
from tests.integration.line import OTHER, USER, Line, MemorySink, as_role, configured, installed
from tests.integration.test_operator import led

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"
STEP = """
INSERT INTO creditsd.history
    (version, user_id, updated_at, credits, membership_status, plan_type, can_buy, has_ever_had_subscription, cause)
VALUES (%s, %s, %s, 1, 'active', 'none', true, false, 'change')
"""

KEPT = {"history": {"days": 3}}
NOBODY = "00000000-0000-0000-0000-000000000077"


def now() -> datetime:
    return datetime.now(UTC)


def version_at(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


def midnight(days: int = 0) -> datetime:
    """Where a day begins, counted from today; a test that runs over midnight is the day it began in."""
    return now().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=days)


def partition(days: int = 0) -> str:
    return f"history_{midnight(days):%Y%m%d}"


def partitions(database: Database) -> list[str]:
    """The days that have a partition."""
    names = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'creditsd.history'::regclass ORDER BY 1"
    return [name.removeprefix("creditsd.") for (name,) in database.run(names) if not name.endswith("_rest")]


def kept(database: Database, user_id: str = USER) -> list[tuple[Any, ...]]:
    """Credits and cause of each step of a user, in order."""
    return database.run("SELECT credits, cause FROM creditsd.history WHERE user_id = %s ORDER BY version", [user_id])


def whole_after(database: Database) -> Any:
    rows = database.run("SELECT whole_after FROM creditsd.history_kept")
    return rows[0][0] if rows else None


def open_day(database: Database, days: int) -> None:
    """Make the partition of a day that is past, as a daemon of that day has, with a step in it."""
    begin, end = version_at(midnight(days)), version_at(midnight(days + 1))
    database.run(
        f"CREATE TABLE creditsd.{partition(days)} PARTITION OF creditsd.history FOR VALUES FROM ({begin}) TO ({end})"
    )
    database.run(STEP, [begin, USER, midnight(days)])


async def tidy(settings: Settings) -> bool:
    async with connected(settings.dsn, purpose="tidy") as connection:
        return await HistoryPartitions(settings.history.days).tidy(connection)


# What is kept.


async def test_every_published_version_is_a_step_and_nothing_else_is(installation: Database) -> None:
    published = []
    async with Line.settled(configured(installation, **KEPT)) as line:
        for amount in (1, 2, -2):
            installation.run(ADD, [USER, amount])
            installation.run(ADD, [OTHER, amount])
            published += await line.settle()
        installation.run("UPDATE user_credits SET note = 'the same total'")
        assert await line.settle() == []
        published += (await line.recomputer.recompute([USER], cause="repair", republish=True)).totals
    assert kept(installation) == [(1, "change"), (3, "change"), (1, "change"), (1, "repair")]
    columns = "version, user_id::text, updated_at, credits, cause, record_send(previous)"
    found = installation.run(f"SELECT {columns} FROM creditsd.history ORDER BY version")
    assert found == [
        (each.version, each.user_id, each.updated_at, each.credits, each.cause, each.previous_record)
        for each in published
    ]
    newest = installation.run(
        f"SELECT DISTINCT ON (user_id) {columns} FROM creditsd.history ORDER BY user_id, version DESC"
    )
    assert newest == installation.run(f"SELECT {columns} FROM creditsd.balances ORDER BY user_id")


async def test_off_keeps_nothing_and_notes_where_on_begins_again(installation: Database) -> None:
    on, off = configured(installation, **KEPT), configured(installation)
    versions = []
    for amount, settings in enumerate((off, on, off, on)):
        installation.run(ADD, [USER, amount + 1])
        async with Line.settled(settings):
            versions.append(installation.run("SELECT version FROM creditsd.balances")[0][0])
    assert [version for (version,) in installation.run("SELECT version FROM creditsd.history ORDER BY 1")] == [
        versions[1],
        versions[3],
    ]
    assert versions[2] <= whole_after(installation) < versions[3]


async def test_a_version_ahead_of_the_clock_is_kept_all_the_same(installation: Database) -> None:
    async with Line.settled(configured(installation, **KEPT)) as line:
        installation.run(ADD, [USER, 1])
        await line.settle()
        ahead = version_at(midnight(400))
        installation.run("UPDATE creditsd.balances SET version = %s", [ahead])
        installation.run(ADD, [USER, 1])
        await line.settle()
    assert installation.run("SELECT version FROM creditsd.history_rest WHERE version > %s", [ahead]) == [(ahead + 1,)]


# Partitions.


async def test_partitions_are_opened_a_day_ahead_and_dropped_in_time(reference_table: Database) -> None:
    settings = await installed(reference_table, **KEPT)
    for days in (-5, -4, -3):
        open_day(reference_table, days)
    reference_table.run("INSERT INTO creditsd.history_kept VALUES (true, 3, 1, 1)")
    reference_table.run(STEP, [version_at(midnight(-9)), USER, midnight(-9)])
    reference_table.run(STEP, [version_at(midnight(900)), USER, now()])
    # One day at a time is dropped, so that a clock that is wrong for a moment does not cost everything.
    assert await tidy(settings) is False
    assert partitions(reference_table) == [partition(days) for days in (-4, -3, 0, 1)]
    assert whole_after(reference_table) == version_at(midnight(-5))
    # What has no partition is deleted by its age; what lies ahead of the clock is not old.
    assert len(reference_table.run("SELECT FROM creditsd.history_rest")) == 1
    # Two daemons at once, or ten: nobody waits, nobody fails.
    await asyncio.gather(*(tidy(settings) for _ in range(10)))
    await tidy(settings)
    assert partitions(reference_table) == [partition(days) for days in (-3, 0, 1)]
    assert whole_after(reference_table) == version_at(midnight(-4))
    # Midnight is where one day ends and the next begins.
    reference_table.run(STEP, [version_at(midnight(1)) - 1, USER, now()])
    reference_table.run(STEP, [version_at(midnight(1)), OTHER, now()])
    for days, user_id in ((0, USER), (1, OTHER)):
        assert reference_table.run(f"SELECT user_id::text FROM creditsd.{partition(days)}") == [(user_id,)]
    # Off opens none, and still lets go of what is past the days that were in force.
    open_day(reference_table, -4)
    await tidy(configured(reference_table))
    assert partitions(reference_table) == [partition(days) for days in (-3, 0, 1)]
    reference_table.run("UPDATE creditsd.history_kept SET days = 1")
    await tidy(configured(reference_table))
    assert partitions(reference_table) == [partition(days) for days in (0, 1)]
    await schema.uninstall(settings)
    assert reference_table.run("SELECT to_regnamespace('creditsd') IS NULL") == [(True,)]


async def test_a_partition_that_cannot_be_opened_or_dropped_stops_nobody(reference_table: Database) -> None:
    settings = await installed(reference_table, **KEPT)
    open_day(reference_table, -9)
    async with reference_table.connect(autocommit=False) as other:
        await other.execute("SELECT FROM creditsd.history")
        await tidy(settings)
        assert partitions(reference_table) == [partition(-9)]
        reference_table.run(ADD, [USER, 1])
        async with Line.settled(settings):
            assert kept(reference_table)[1:] == [(1, "backfill")]
    # The day that began without a partition ends without one; the next has its own.
    await tidy(settings)
    assert partitions(reference_table) == [partition(1)]
    reference_table.run("UPDATE creditsd.history_rest SET updated_at = updated_at - interval '73 hours'")
    await tidy(settings)
    assert kept(reference_table) == []
    # A view of somebody's on a partition keeps that one, with a warning, and nothing else.
    open_day(reference_table, -9)
    open_day(reference_table, -8)
    reference_table.run(f"CREATE VIEW theirs AS SELECT FROM creditsd.{partition(-9)}")
    await tidy(settings)
    assert partitions(reference_table) == [partition(-9), partition(0), partition(1)]


async def test_a_daemon_with_few_rights_opens_them_before_the_first_step(reference_table: Database) -> None:
    with restricted(reference_table) as (role, seen):
        await installed(reference_table, role=role, **KEPT)
        reference_table.run(ADD, [USER, 1])
        async with leading(configured(seen, role=role, **KEPT)):
            assert partitions(reference_table) == [partition(0), partition(1)]
            reference_table.run(ADD, [USER, 1])

            async def steps() -> list[tuple[Any, ...]]:
                return kept(seen)

            await eventually(steps, lambda found: found == [(1, "backfill"), (2, "change")])
    assert reference_table.run("SELECT FROM creditsd.history_rest") == []


# Reading.


async def test_a_signed_in_user_reads_their_own_steps_alone(reference_table: Database, role: str) -> None:
    settings = await installed(reference_table, reader=role, **KEPT)
    for amount in (1, 2):
        reference_table.run(ADD, [USER, amount])
        reference_table.run(ADD, [OTHER, amount])
        async with Line.settled(settings):
            pass
    await tidy(settings)
    client = as_role(reference_table, role)
    claims = f"SELECT set_config('request.jwt.claims', '{{\"sub\": \"{USER}\"}}', false)"
    read = "SELECT user_id::text, credits FROM creditsd.history ORDER BY version"
    assert client.run(read) == []
    async with client.connect() as connection:
        await connection.execute(claims)
        assert await (await connection.execute(read.encode())).fetchall() == [(USER, 1), (USER, 3)]
    rights = "SELECT has_table_privilege(%s, c.oid, 'SELECT') FROM pg_class AS c WHERE c.relname ~ '^history_'"
    assert not any(can for (can,) in reference_table.run(rights, [role]))


async def test_the_command_shows_them_newest_first_and_says_when_it_is_off(reference_table18: Database) -> None:
    env = environment(CREDITSD_DSN=reference_table18.dsn)
    on = env | {"CREDITSD_HISTORY__DAYS": "3"}
    async with Line.settled(await installed(reference_table18, **KEPT)) as line:
        for amount in (1, 2):
            reference_table18.run(ADD, [USER, amount])
            await line.settle()
    done = await creditsd("history", USER, env=on)
    first, second = done.lines
    assert (first["credits"], first["previous"]["credits"], first["cause"]) == (3, 1, "change")
    assert (second["credits"], second["previous"], second["user_id"]) == (1, None, USER)
    assert done.err == ""
    done = await creditsd("history", USER, "--limit", "1", "--json", env=env)
    assert ([each["credits"] for each in done.lines], done.code) == ([3], 0)
    assert "history is off; these are left" in done.err
    done = await creditsd("history", OTHER, env=env)
    assert (done.out, "history is off: to keep each step, set [history] days" in done.err) == ("", True)


# What is told of it over HTTP.


async def test_a_user_reads_their_own_steps_page_by_page_and_a_server_everyones(installation: Database) -> None:
    settings = configured(installation, http=http(), **KEPT)
    async with led(settings, sink := MemorySink()) as (_, client):
        for amount in range(1, 6):
            installation.run(ADD, [USER, 1])
            await sink.until_credits(USER, amount)
        installation.run(ADD, [OTHER, 9])
        await sink.until_credits(OTHER, 9)
        mine, pages, cursor = "/v1/me/credits/history?limit=2", [], ""
        while True:
            answer = await client.get(f"{mine}{cursor}", **bearer(token(USER)))
            assert answer.status == 200, answer
            pages.append([step["credits"] for step in answer.body["data"]["steps"]])
            if answer.body["data"]["next"] is None:
                break
            cursor = f"&cursor={answer.body['data']['next']}"
        assert pages == [[5, 4], [3, 2], [1]]
        read = await client.get(f"/v1/users/{USER.upper()}/credits/history", **bearer(KEY))
        steps = read.body["data"]["steps"]
        assert [(step["user_id"], step["credits"], step["cause"]) for step in steps] == [
            (USER, amount, "change") for amount in (5, 4, 3, 2, 1)
        ]
        assert steps[0].keys() == (await client.read(USER, KEY)).body["data"].keys() | {"cause"}
        assert (await client.get(f"/v1/users/{OTHER}/credits/history", **bearer(token(USER)))).status == 403
        assert (await client.get("/v1/me/credits/history")).status == 401
        nobody = await client.get(f"/v1/users/{NOBODY}/credits/history", **bearer(KEY))
        assert nobody.body["data"] == {"steps": [], "next": None}
        for query in ("limit=0", "limit=101", "limit=x", "limit=-1", "cursor=x", f"cursor={2**63}", "limit=1&limit=2"):
            refused = await client.get(f"/v1/me/credits/history?{query}", **bearer(token(USER)))
            assert (refused.status, query.partition("=")[0] in refused.error) == (400, True), query


async def test_where_no_history_is_kept_that_is_said(installation: Database) -> None:
    async with led(configured(installation, http=http()), MemorySink()) as (_, client):
        refused = await client.get("/v1/me/credits/history", **bearer(token(USER)))
        assert (refused.status, "[history] days" in refused.error) == (404, True)
        assert (await client.get("/v1/me/credits/history", **bearer("nobody's"))).status == 401
