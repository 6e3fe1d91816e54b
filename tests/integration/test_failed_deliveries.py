"""deliveries list, show, retry, drop."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from creditsd.admin.failed_deliveries import FailedDeliveries
from creditsd.config.settings import Settings
from creditsd.domain.errors import InputError
from tests.acceptance.command import creditsd, environment
from tests.conftest import Database, eventually
from tests.integration.leading import leading, restricted
from tests.integration.line import OTHER, USER, MemorySink, configured, installed, user

SINKS = [{"name": "hook", "url": "stdout:"}, {"name": "cache", "url": "stdout:"}]


def refuse(database: Database, sink: str, user_id: str, *, dead: bool = False, attempt: int = 3) -> None:
    database.run(
        "INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, next_at, last_status, last_error) "
        "VALUES (%s, %s, 17, %s, CASE WHEN NOT %s THEN now() + interval '2 hours' END, 400, 'answered 400: no')",
        [sink, user_id, attempt, dead],
    )


def due(database: Database) -> dict[tuple[str, str], tuple[bool, int]]:
    """Of each delivery whether it is due, and which try the next one follows."""
    found = database.run(
        "SELECT sink, user_id::text, coalesce(next_at <= now(), false), attempt FROM creditsd.deliveries"
    )
    return {(sink, user_id): (now, attempt) for sink, user_id, now, attempt in found}


async def asked(settings: Settings, what: str, *args: Any, **more: Any) -> Any:
    async with FailedDeliveries.opened(settings) as failed:
        return await getattr(failed, what)(*args, **more)


@pytest.fixture
async def refused(reference_table: Database) -> Settings:
    settings = await installed(reference_table, sinks=SINKS)
    refuse(reference_table, "hook", USER)
    refuse(reference_table, "hook", OTHER, dead=True)
    refuse(reference_table, "cache", USER)
    return settings


async def test_a_list_shows_what_waits_before_what_is_dead(refused: Settings) -> None:
    found = await asked(refused, "list", limit=10)
    assert [(each.sink, each.user_id, each.next_at is None) for each in found] == [
        ("cache", USER, False),
        ("hook", USER, False),
        ("hook", OTHER, True),
    ]
    assert (found[0].version, found[0].attempt, found[0].last_status) == (17, 3, 400)
    assert [each.user_id for each in await asked(refused, "list", "hook", dead=True, limit=10)] == [OTHER]
    assert len(await asked(refused, "list", limit=2)) == 2


async def test_one_is_shown_whatever_the_case_of_its_id(refused: Settings) -> None:
    found = await asked(refused, "show", "hook", USER.upper())
    assert (found.user_id, found.last_error) == (USER, "answered 400: no")
    assert found.refused_at <= datetime.now(UTC)


async def test_a_retry_is_due_at_once_and_begins_the_schedule_anew(
    reference_table: Database, refused: Settings
) -> None:
    async with reference_table.connect() as listener:
        await listener.execute("LISTEN creditsd")
        assert await asked(refused, "retry", "hook", OTHER) == 1
        assert [each.payload async for each in listener.notifies(timeout=60, stop_after=1)] == ["sinks"]
    assert due(reference_table) == {
        ("hook", USER): (False, 3),
        ("hook", OTHER): (True, 0),
        ("cache", USER): (False, 3),
    }
    assert await asked(refused, "retry", "hook", None) == 2
    assert due(reference_table)["cache", USER] == (False, 3)


async def test_a_dead_delivery_that_is_retried_arrives_at_once(reference_table: Database) -> None:
    settings = await installed(reference_table)
    reference_table.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')", [USER])
    sink = MemorySink()
    sink.refuses.add(USER)
    async with leading(settings, ("memory", sink)):

        async def refused() -> list[Any]:
            return list(await asked(settings, "list", "memory", limit=1))

        await sink.until(lambda: sink.tries > 0)  # before that nobody knows the sink
        await eventually(refused)
        reference_table.run("UPDATE creditsd.deliveries SET next_at = NULL, attempt = 10")
        sink.refuses.clear()
        assert await asked(settings, "retry", "memory", None) == 1
        await sink.until_credits(USER, 5)
        await eventually(refused, lambda found: found == [])


async def test_what_is_dropped_is_gone_and_nothing_else(reference_table: Database, refused: Settings) -> None:
    assert await asked(refused, "drop", "hook", USER) == 1
    assert set(due(reference_table)) == {("hook", OTHER), ("cache", USER)}
    assert await asked(refused, "drop", "cache", None) == 1
    assert await asked(refused, "drop", "cache", None) == 0
    assert set(due(reference_table)) == {("hook", OTHER)}


async def test_an_unknown_sink_or_user_is_refused_with_the_nearest(refused: Settings) -> None:
    for what, args in (("retry", ["hok", None]), ("drop", ["hok", USER]), ("show", ["hok", USER])):
        with pytest.raises(InputError, match="no sink is called 'hok': did you mean hook"):
            await asked(refused, what, *args)
    with pytest.raises(InputError, match="did you mean hook"):
        await asked(refused, "list", "hok", limit=1)
    for what in ("retry", "drop", "show"):
        with pytest.raises(InputError, match=f"did you mean {USER}|did you mean {OTHER}"):
            await asked(refused, what, "hook", user(3))
        with pytest.raises(InputError, match="is not a user's id"):
            await asked(refused, what, "hook", "nobody")


async def test_a_sink_that_is_not_configured_any_more_can_be_cleared(reference_table18: Database) -> None:
    settings = await installed(reference_table18)
    reference_table18.run("INSERT INTO creditsd.sinks (name) VALUES ('former')")
    refuse(reference_table18, "former", USER)
    assert await asked(settings, "drop", "former", None) == 1


async def test_a_restricted_role_is_enough(reference_table: Database) -> None:
    with restricted(reference_table) as (role, seen):
        await installed(reference_table, role=role)
        settings = configured(seen, role=role, sinks=SINKS)
        refuse(reference_table, "hook", USER)
        assert len(await asked(settings, "list", limit=10)) == 1
        assert await asked(settings, "retry", "hook", USER) == 1
        assert await asked(settings, "drop", "hook", None) == 1


async def test_the_commands_print_json_lines_and_exit_as_they_should(reference_table18: Database) -> None:
    await installed(reference_table18, sinks=SINKS)
    refuse(reference_table18, "hook", USER)
    env = environment(CREDITSD_DSN=reference_table18.dsn, CREDITSD_SINKS=orjson.dumps(SINKS).decode())
    done = await creditsd("deliveries", "list", env=env)
    assert (done.code, done.json["user_id"], done.json["attempt"]) == (0, USER, 3)
    assert (await creditsd("deliveries", "show", "hook", USER, env=env)).json["last_status"] == 400
    for args in (["hook"], ["hook", USER, "--all"], ["hok", "--all"], ["hook", OTHER]):
        done = await creditsd("deliveries", "drop", *args, env=env)
        assert (done.code, done.err.count("\n")) == (65, 1), done.err
    done = await creditsd("deliveries", "retry", "hook", "--all", env=env)
    assert (done.code, "1 delivery to hook will be tried now" in done.err) == (0, True)
    assert (await creditsd("deliveries", "drop", "hook", USER, env=env)).code == 0
    assert (await creditsd("deliveries", "list", env=env)).out == ""
