"""A partitioned table is captured as a whole, and so is each of its partitions."""

from __future__ import annotations

import pytest

from tests.conftest import Database
from tests.integration.line import OTHER, USER, Line, as_role, installed, user
from tests.integration.schemas import PARTITIONED


async def test_every_partition_is_captured_one_that_comes_later_too(database: Database) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    add = "INSERT INTO {} (user_id, credits, status, region) VALUES (%s, 1, 'active', %s)"
    async with Line.settled(settings) as line:
        database.run(add.format("user_credits"), [user(1), "eu"])
        database.run(add.format("credits_us"), [user(2), "us"])
        database.run(add.format('"Credits us"'), [user(3), "us"])
        assert await line.marked() == [user(1), user(2), user(3)]
        await line.settle()
        database.run("CREATE TABLE asia PARTITION OF user_credits FOR VALUES IN ('asia')")
        database.run("CREATE TABLE late (LIKE user_credits)")
        database.run(add.format("late"), [user(5), "late"])
        assert await line.marked() == []
        database.run("ALTER TABLE user_credits ATTACH PARTITION late FOR VALUES IN ('late')")
        database.run(add.format("asia"), [user(4), "asia"])
        database.run("UPDATE late SET credits = 7")
        assert await line.marked() == [user(4), user(5)]
        assert {total.user_id: total.credits for total in await line.settle()} == {user(4): 1, user(5): 7}


async def test_a_row_that_moves_between_partitions_marks_its_user(database: Database) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    async with Line.settled(settings) as line:
        database.run("INSERT INTO user_credits VALUES (%s, 3, 'active', 'one_time', 'eu')", [USER])
        await line.settle()
        database.run("UPDATE user_credits SET region = 'us', credits = 4")
        assert set(await line.marked()) == {USER}
        assert [total.credits for total in await line.settle()] == [4]
        database.run("UPDATE user_credits SET region = 'eu', user_id = %s, credits = 0", [OTHER])
        assert set(await line.marked()) == {USER, OTHER}
        await line.settle()
        assert await line.stored() == {USER: 0, OTHER: 0}
        assert database.run("SELECT status FROM credits_eu") == [("expired",)]


@pytest.mark.parametrize("partition", ["user_credits", "credits_us", '"Credits us"'])
async def test_a_truncated_partition_means_everyone(database: Database, partition: str) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    async with Line.settled(settings) as line:
        database.run("INSERT INTO user_credits VALUES (%s, 3, 'active', 'one_time', 'us')", [USER])
        await line.settle()
        database.run(f"TRUNCATE {partition}")
        assert [total.credits for total in await line.settle()] == [0]


async def test_a_detached_or_attached_partition_means_everyone(database: Database) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    async with Line.settled(settings) as line:
        database.run("INSERT INTO user_credits VALUES (%s, 3, 'active', 'one_time', 'eu')", [USER])
        await line.settle()
        database.run("ALTER TABLE user_credits DETACH PARTITION credits_eu")
        await line.change_reader.resume()
        assert [total.credits for total in await line.settle()] == [0]


async def test_triggers_fire_for_replicated_rows_on_every_partition(database: Database) -> None:
    database.run(PARTITIONED)
    settings = await installed(database)
    async with Line.settled(settings) as line, database.connect() as application:
        await application.execute("SET session_replication_role = replica")
        for number, table in enumerate(("user_credits", "credits_eu", '"Credits us"')):
            region = "us" if number == 2 else "eu"
            await application.execute(
                f"INSERT INTO {table} VALUES (%s, 1, 'active', 'one_time', %s)".encode(), [user(number), region]
            )
        assert await line.marked() == [user(0), user(1), user(2)]
        await line.settle()
        await application.execute("UPDATE user_credits SET credits = 2")
        await application.execute("DELETE FROM user_credits WHERE region = 'us'")
        assert set(await line.marked()) == {user(0), user(1), user(2)}
        await application.execute("TRUNCATE credits_eu")
        await line.settle()
        assert await line.stored() == {user(0): 0, user(1): 0, user(2): 0}


async def test_the_application_adds_partitions_to_what_an_administrator_installed(
    database: Database, role: str
) -> None:
    database.run(f"GRANT CREATE ON SCHEMA public TO {role}")
    application = as_role(database, role)
    application.run(PARTITIONED)
    settings = await installed(database)
    application.run("CREATE TABLE asia PARTITION OF user_credits FOR VALUES IN ('asia')")
    async with Line.settled(settings) as line:
        application.run("INSERT INTO asia VALUES (%s, 3, 'active', 'one_time', 'asia')", [USER])
        assert [total.credits for total in await line.settle()] == [3]
        application.run("DROP TABLE credits_us")
