"""Rows that begin later: they count from their start on, and the total is published then."""

from __future__ import annotations

from datetime import timedelta

import pytest

from creditsd.admin.inspect import Inspector
from creditsd.admin.verify import Verifier
from creditsd.config.settings import Settings
from creditsd.domain.errors import SchemaError
from creditsd.domain.total import Total
from creditsd.postgres import sql_files
from creditsd.postgres.connections import connected
from creditsd.schema import install as schema
from creditsd.schema.source_table import SourceTable
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER, Line, MemorySink, as_role, configured, installed, said, user
from tests.integration.mending import until_mended, until_told
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE

ADD = (
    "INSERT INTO user_credits (user_id, credits, status, plan_type, starts_at, expires_at) "
    "VALUES (%s, %s, 'active', %s, now() + %s, now() + %s)"
)
PACK = "one_time"
HOUR = timedelta(hours=1)
NEWLY = "rows of public.user_credits count from their starts_at on: everyone is recomputed"


def with_starts(database: Database, type_: str = "timestamptz") -> None:
    database.run(REFERENCE_TABLE)
    database.run(f"ALTER TABLE user_credits ADD starts_at {type_}")


def statuses(database: Database) -> list[str]:
    return [status for (status,) in database.run("SELECT status FROM user_credits ORDER BY id")]


async def whys(settings: Settings, user_id: str) -> list[str]:
    async with Inspector.opened(settings, purpose="test") as inspector:
        return [each.why for each in (await inspector.explain(user_id)).rows]


async def until_due(line: Line) -> timedelta:
    """In how long the timer of the line rings."""
    page = (await line.change_reader.drain(10)).page
    return timedelta(seconds=float(page["due_seconds"]))


async def test_a_start_is_published_when_it_comes(database: Database) -> None:
    with_starts(database)
    settings = await installed(database)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        await until(daemon, "state", "leading")
        told: list[Total] = []
        for number, seconds in enumerate((0.5, 2, 8)):  # a busy machine may look only after the start
            database.run(ADD, [user(number), 5, PACK, timedelta(seconds=seconds), None])
            await sink.until_credits(user(number), 5)
            told = [total for total in sink.totals if total.user_id == user(number)]
            if len(told) > 1:
                break
    first, began = told
    assert said(first, "credits", "cause", "membership_status") == (0, "change", "expired")
    assert said(began, "credits", "cause", "membership_status", "plan_type") == (5, "expiry", "active", "one_time")
    ((start,),) = database.run("SELECT starts_at FROM user_credits ORDER BY id DESC LIMIT 1")
    # Nothing else would look for half a minute.
    assert timedelta(0) <= began.updated_at - start < timedelta(seconds=10)


async def test_get_explain_and_verify_agree_on_what_has_not_begun(database: Database) -> None:
    with_starts(database)
    settings = await installed(database)
    async with Line.settled(settings) as line, Inspector.opened(settings, purpose="test") as inspector:
        for amount, starts, ends in (
            (1, None, None),
            (2, -HOUR, None),
            (4, HOUR, None),
            (8, -HOUR, HOUR),
            (16, 2 * HOUR, HOUR),
            (32, HOUR, HOUR),
            (64, -HOUR, -HOUR / 2),
        ):
            database.run(ADD, [USER, amount, "subscription", starts, ends])
        (total,) = await line.settle()
        assert total.credits == 11
        assert (await inspector.total(USER)).json() == total.json()
        explained = (await inspector.explain(USER)).rows
        counted = {int(each.credits or 0): (each.counts, each.why) for each in explained}
        assert {amount for amount, (counts, _) in counted.items() if counts} == {1, 2, 8}
        assert counted[4][1].startswith("it starts at ")
        assert counted[16][1] == counted[32][1] == "it ends before it starts"
        assert counted[64][1].startswith("it ended at ")
        starts_at = {int(each.credits or 0): each.starts_at for each in explained}
        assert starts_at[1] is None
        assert database.run("SELECT starts_at FROM user_credits WHERE credits = 4") == [(starts_at[4],)]
        async with Verifier.opened(settings, []) as verifier:
            verdict = await verifier.run(repair=False, progress=lambda *_: None, report=lambda _: None)
            assert (verdict.users, verdict.drifted) == (1, 0)
        assert database.run("SELECT count(*), count(starts_at) FROM creditsd.source WHERE NOT left_out") == [(7, 6)]


async def test_the_timer_rings_at_the_next_start_or_end_whichever_comes_first(database: Database) -> None:
    with_starts(database)
    async with Line.settled(await installed(database)) as line:
        for starts, ends in ((None, 3 * HOUR), (2 * HOUR, None), (HOUR / 2, HOUR / 4)):
            database.run(ADD, [USER, 5, PACK, starts, ends])
        await line.settle()
        assert HOUR < await until_due(line) <= 2 * HOUR
        database.run(ADD, [USER, 5, PACK, None, HOUR])
        await line.settle()
        assert HOUR / 2 < await until_due(line) <= HOUR


async def test_the_start_is_inclusive(database: Database) -> None:
    with_starts(database)
    async with Line.settled(await installed(database)) as line:
        database.run("INSERT INTO user_credits (user_id, credits, status, starts_at) VALUES "
                     "(%s, 5, 'active', '2030-01-01Z')", [USER])  # fmt: skip
        query = "SELECT credits FROM creditsd.totals(ARRAY[%s::uuid], %s, 'always', 'on')"
        for instant, amount in (("2029-12-31 23:59:59.999999+00", 0), ("2030-01-01 00:00:00+00", 5)):
            assert await (await line.connection.execute(query, [USER, instant])).fetchall() == [(amount,)]


@pytest.mark.parametrize(
    ("type_", "timezone", "starts"),
    [
        ("timestamptz", "America/New_York", "2999-12-30 11:00:00"),
        ("timestamp", "UTC", "2999-12-31 00:00:00"),
        ("timestamp", "America/New_York", "2999-12-31 05:00:00"),
        ("date", "UTC", "2999-12-31 00:00:00"),
        ("date", "America/New_York", "2999-12-31 05:00:00"),
    ],
)
async def test_a_start_without_a_zone_is_read_in_the_one_that_is_set_and_a_date_begins_with_its_day(
    database: Database, type_: str, timezone: str, starts: str
) -> None:
    with_starts(database, type_)
    database.run(f"ALTER DATABASE {database.name} SET timezone = 'Pacific/Auckland'")
    settings = configured(database, source={"timezone": timezone})
    notes = (await schema.install(settings)).notes
    told = [f"starts_at of public.user_credits says no time zone: read as {timezone} (source.timezone)"]
    assert [note for note in notes if "time zone" in note] == ([] if type_ == "timestamptz" else told)
    async with Line.settled(settings) as line:
        database.run("INSERT INTO user_credits (user_id, credits, status, starts_at) VALUES "
                     "(%s, 5, 'active', '2999-12-31')", [USER])  # fmt: skip
        await line.settle()
        assert await whys(settings, USER) == [f"it starts at {starts} UTC"]


@pytest.mark.parametrize("type_", ["timestamptz", "timestamp", "date"])
async def test_a_start_beyond_all_years_never_comes_and_one_before_them_has(database: Database, type_: str) -> None:
    with_starts(database, type_)
    latest = "5874000-01-01" if type_ == "date" else "294000-01-01"
    settings = await installed(database, source={"timezone": "Asia/Tokyo"})
    async with Line.settled(settings) as line:
        for number, starts in enumerate((latest, "infinity", "-infinity", "0044-03-15 BC", "4700-01-01 BC")):
            database.run("INSERT INTO user_credits (user_id, credits, status, starts_at) VALUES "
                         "(%s, 5, 'active', %s)", [user(number), starts])  # fmt: skip
        stored = {total.user_id: int(total.credits) for total in await line.settle()}
        assert stored == {user(0): 0, user(1): 0} | {user(each): 5 for each in (2, 3, 4)}
        assert database.run("SELECT count(recheck_at) FROM creditsd.balances") == [(0,)]
    assert await whys(settings, user(1)) == ["it never starts"]
    async with Inspector.opened(settings, purpose="test") as inspector:
        assert [each.starts_at for each in (await inspector.explain(user(0))).rows] == [None]


@pytest.mark.parametrize("expire_empty", ["on", "off"])
async def test_an_empty_plan_that_has_not_begun_is_left_alone_until_it_does(
    database: Database, expire_empty: str
) -> None:
    with_starts(database)
    settings = await installed(database, expire_empty=expire_empty)
    async with Line.settled(settings) as line:
        database.run(ADD, [USER, 0, PACK, HOUR, None])
        database.run(ADD, [USER, 0, PACK, None, None])
        await line.settle()
        assert statuses(database) == ["active", "expired" if expire_empty == "on" else "active"]
        database.run("UPDATE user_credits SET credits = 7 WHERE starts_at IS NULL")
        database.run("UPDATE user_credits SET status = 'active' WHERE starts_at IS NULL")
        await line.settle()
        assert HOUR / 2 < await until_due(line) <= HOUR
        database.run("UPDATE user_credits SET starts_at = now() - interval '1 s' WHERE starts_at > now()")
        await line.settle()
        assert statuses(database) == ["expired" if expire_empty == "on" else "active", "active"]


async def test_an_empty_plan_is_expired_by_the_timer_once_it_begins(database: Database) -> None:
    with_starts(database)
    settings = await installed(database)
    sink = MemorySink()

    async def found() -> list[str]:
        return statuses(database)

    async with running(settings, sink) as daemon:
        await until(daemon, "state", "leading")
        database.run(ADD, [USER, 0, PACK, HOUR, None])
        await sink.until_credits(USER, 0)
        assert statuses(database) == ["active"]
        database.run("UPDATE user_credits SET starts_at = now() + interval '0.5 s'")
        await eventually(found, lambda read: read == ["expired"])


async def test_a_table_that_has_had_such_a_column_all_along_is_said_to_mean_something_new(database: Database) -> None:
    with_starts(database)
    without = await installed(database, source={"columns": {"starts_at": ""}})
    async with Line.settled(without) as line:
        database.run(ADD, [USER, 5, PACK, HOUR, None])
        database.run(ADD, [OTHER, 5, PACK, None, None])
        assert [int(total.credits) for total in await line.settle()] == [5, 5]
    settings = configured(database)
    assert NEWLY in (await schema.install(settings)).done
    assert NEWLY not in (await schema.install(settings)).done
    async with Line.opened(settings) as line:
        assert {total.user_id: int(total.credits) for total in await line.settle()} == {USER: 0}


async def test_an_upgrade_says_so_too_and_keeps_what_others_have_built_on_the_view(
    database: Database, role: str
) -> None:
    with_starts(database)
    settings = configured(database)
    async with connected(settings.dsn, purpose="install") as connection:
        source = await SourceTable.inspect(connection, settings)
        for number, name in sql_files.migrations():
            if number < 14:
                await connection.execute(source.filled(name).encode())
    database.run(
        """INSERT INTO creditsd.installation (migration, digest, source, role)
        VALUES (13, 'of then', '{"table": "public.user_credits", "columns": {"expires_at": "expires_at"}}', '');
        CREATE FUNCTION creditsd.source_rows(asked uuid DEFAULT NULL) RETURNS TABLE (
            user_id uuid, credits numeric, status text, active boolean, plan_type text, subscription boolean,
            one_time boolean, empty boolean, membership text, subscription_id text, expires_at timestamptz,
            created_at timestamptz
        ) LANGUAGE sql AS 'SELECT NULL::uuid, 1, '''', true, '''', true, true, true, '''', '''', now(), now()';
        CREATE VIEW creditsd.source AS SELECT * FROM creditsd.source_rows();
        REVOKE ALL ON FUNCTION creditsd.source_rows FROM PUBLIC;
        CREATE VIEW theirs AS SELECT user_id, credits FROM creditsd.source"""
    )
    # A function in a view is called with the rights of whoever reads the view.
    database.run(f"GRANT USAGE ON SCHEMA creditsd TO {role}; GRANT EXECUTE ON FUNCTION creditsd.source_rows TO {role}")
    database.run(f"GRANT SELECT ON theirs TO {role}")
    database.run(ADD, [USER, 5, PACK, HOUR, None])
    assert NEWLY in (await schema.install(settings)).done
    assert [int(amount) for _, amount in as_role(database, role).run("SELECT * FROM theirs")] == [5]


async def test_a_column_that_comes_later_is_noticed_before_it_says_something_else(database: Database) -> None:
    database.run(REFERENCE_TABLE)
    settings = await installed(database)
    async with running(settings) as daemon:
        await until(daemon, "ready", True)
        database.run("ALTER TABLE user_credits ADD starts_at timestamptz")
        await until_told(daemon, "the table or the settings differ from what is installed")
        assert "made the functions" in (await schema.install(settings)).done
        await until_mended(daemon)


async def test_a_column_of_that_name_that_holds_no_times_is_refused_with_the_way_out(database: Database) -> None:
    with_starts(database, "text")
    says = r'starts_at .* is text: creditsd needs timestamp with time zone, or source\.columns\.starts_at = "" to do'
    with pytest.raises(SchemaError, match=says):
        await installed(database)
    assert (await schema.install(configured(database, source={"columns": {"starts_at": ""}}))).done


async def test_the_start_may_have_another_name_and_must_be_there_if_it_is_named(database: Database) -> None:
    with_starts(database)
    with pytest.raises(SchemaError, match=r"no column 'starts_a': did you mean 'starts_at'\?"):
        await installed(database, source={"columns": {"starts_at": "starts_a"}})
    database.run('ALTER TABLE user_credits RENAME starts_at TO "Valid ""from"""')
    settings = await installed(database, source={"columns": {"starts_at": 'Valid "from"'}})
    async with Line.settled(settings) as line:
        database.run(
            'INSERT INTO user_credits (user_id, credits, status, "Valid ""from""") VALUES '
            "(%s, 5, 'active', now() + interval '1 hour'), (%s, 6, 'active', now())",
            [USER, USER],
        )
        assert [int(total.credits) for total in await line.settle()] == [6]
