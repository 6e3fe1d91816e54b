"""Partitions and children come, go and change under a running daemon: noticed, said, and right after one install."""

from __future__ import annotations

import pytest

from creditsd.domain.errors import SchemaError
from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import OTHER, USER, Line, MemorySink, installed, user
from tests.integration.mending import ADD, ASKED, until_mended, until_told, until_unready
from tests.integration.running import running, until
from tests.servers import REFERENCE_TABLE

PARTITIONED = """
CREATE TABLE user_credits (user_id uuid, credits integer, status text, region text NOT NULL) PARTITION BY LIST (region);
CREATE TABLE eu PARTITION OF user_credits FOR VALUES IN ('eu');
CREATE TABLE us PARTITION OF user_credits FOR VALUES IN ('us');
INSERT INTO user_credits VALUES ('00000000-0000-0000-0000-000000000001', 10, 'active', 'eu');
"""


@pytest.mark.parametrize("later", [False, True])
async def test_a_table_that_inherits_is_covered(reference_table: Database, later: bool) -> None:
    child = "CREATE TABLE child (note text) INHERITS (user_credits); CREATE TABLE grandchild () INHERITS (child)"
    if not later:
        reference_table.run(child)
    settings = await installed(reference_table)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        await until(daemon, "ready", True)
        if later:
            reference_table.run(child)
            reference_table.run(ADD.replace("user_credits", "child"), [OTHER, 1])
            await until_unready(daemon, r"triggers are missing on public\.(grand)?child: run `creditsd install`")
            assert (await schema.install(settings)).done == [
                "put the triggers on public.child",
                "put the triggers on public.grandchild",
                ASKED,
            ]
            await sink.until_credits(OTHER, 1)
            await until_mended(daemon)
        for number, table in enumerate(("user_credits", "child", "grandchild")):
            reference_table.run(ADD.replace("user_credits", table), [user(10 + number), 5])
            await sink.until_credits(user(10 + number), 5)
        reference_table.run("UPDATE user_credits SET credits = 3")
        for number in range(3):
            await sink.until_credits(user(10 + number), 3)
        reference_table.run("TRUNCATE grandchild")
        await sink.until_credits(user(12), 0)
        reference_table.run("ALTER TABLE child NO INHERIT user_credits")
        await sink.until_credits(user(11), 0)
    assert (await schema.install(settings)).done[:2] == [
        "took the triggers off public.child, which is not public.user_credits",
        "took the triggers off public.grandchild, which is not public.user_credits",
    ]
    assert (await schema.install(settings)).done == []
    assert (await schema.uninstall(settings)).done


async def test_a_child_of_somebodys_session_alone_is_nobody_elses(reference_table: Database) -> None:
    settings = await installed(reference_table)
    async with reference_table.connect() as application:
        await application.execute("CREATE TEMP TABLE mine () INHERITS (user_credits)")
        await application.execute(ADD.replace("user_credits", "mine").encode(), [USER, 1])
        async with Line.settled(settings) as line:
            assert await line.stored() == {}
        assert (await schema.install(settings)).done == []


@pytest.mark.parametrize("in_one", [True, False])
async def test_a_partition_that_was_away_for_a_moment_means_everyone(database: Database, in_one: bool) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        await sink.until_credits(USER, 10)
        steps = [
            "ALTER TABLE user_credits DETACH PARTITION eu",
            "UPDATE eu SET credits = 4",
            "ALTER TABLE user_credits ATTACH PARTITION eu FOR VALUES IN ('eu')",
        ]
        for step in ["; ".join(steps)] if in_one else steps:
            database.run(step)
        await sink.until_credits(USER, 4)
        await until_mended(daemon)
    assert (await schema.install(settings)).done == []


async def test_a_new_partition_that_is_truncated_before_an_install_means_everyone(database: Database) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        database.run("CREATE TABLE asia PARTITION OF user_credits FOR VALUES IN ('asia')")
        database.run("INSERT INTO user_credits VALUES (%s, 3, 'active', 'asia')", [OTHER])
        await sink.until_credits(OTHER, 3)
        database.run("TRUNCATE asia")
        await sink.until_credits(OTHER, 0)
        assert daemon.health()["problem"] is None


@pytest.mark.parametrize("how", ["DISABLE TRIGGER ALL", "ENABLE TRIGGER creditsd_update"])
async def test_a_trigger_that_is_off_on_one_partition_is_noticed(database: Database, how: str) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        await sink.until_credits(USER, 10)
        database.run(f"ALTER TABLE eu {how}")
        await until_unready(daemon, r"triggers .* on public\.eu: run `creditsd install`")
        assert (await schema.install(settings)).done == ["put the triggers on public.eu", ASKED]
        await until_mended(daemon)


@pytest.mark.parametrize("how", ["partition", "child"])
async def test_a_foreign_table_below_the_table_is_said_and_refused(database: Database, how: str) -> None:
    if how == "partition":
        database.run(PARTITIONED)
        make = "CREATE FOREIGN TABLE far PARTITION OF user_credits FOR VALUES IN ('far') SERVER elsewhere"
    else:
        database.run(REFERENCE_TABLE)
        make = "CREATE FOREIGN TABLE far () INHERITS (user_credits) SERVER elsewhere"
    # Its own server's writes fire no trigger here.
    database.run("CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing")
    settings = await installed(database)
    says = r"public\.far of public\.user_credits is a foreign table: what is written at its own server is not seen"
    async with running(settings, MemorySink()) as daemon:
        await until(daemon, "ready", True)
        database.run(make)
        await until_told(daemon, rf'foreign-data wrapper "nothing" has no handler; {says}')  # and not by turns
        with pytest.raises(SchemaError, match=says):
            await schema.install(settings)
        database.run("DROP FOREIGN TABLE far")
        await until_mended(daemon)
    assert (await schema.install(settings)).done == []
