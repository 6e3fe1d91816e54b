"""Telling again: one sink everything, or one user; everyone with new versions. And a sink that is gone for good."""

from __future__ import annotations

import pytest

from creditsd.admin.inspect import Inspector
from creditsd.admin.sinks import SinkControl
from creditsd.config.settings import Settings
from creditsd.domain.errors import InputError, NotAgreed
from tests.acceptance.command import creditsd, environment
from tests.conftest import Database, eventually
from tests.faults.truth import client, held
from tests.integration.leading import leading
from tests.integration.line import OTHER, USER, Line, MemorySink, configured, installed
from tests.integration.publishing import publishers
from tests.servers import Valkey

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"


@pytest.fixture
async def settings(reference_table18: Database, valkey: Valkey) -> Settings:
    for number, user_id in enumerate((USER, OTHER)):
        reference_table18.run(ADD, [user_id, 10 + number])
    return await installed(reference_table18, sinks=[{"name": "cache", "url": valkey.url}])


async def amounts(valkey: Valkey) -> dict[str, int]:
    return {user_id: total["credits"] for user_id, total in (await held(valkey)).items()}


async def test_one_sink_is_told_everything_again(settings: Settings, valkey: Valkey) -> None:
    async with leading(settings), SinkControl.opened(settings) as control:
        await eventually(lambda: amounts(valkey), lambda told: told == {USER: 10, OTHER: 11})
        valkey.flush()
        assert await control.replay("cache")
        await eventually(lambda: amounts(valkey), lambda told: told == {USER: 10, OTHER: 11})


async def test_one_sink_is_told_of_one_user_again(settings: Settings, valkey: Valkey) -> None:
    async with leading(settings), SinkControl.opened(settings) as control:
        await eventually(lambda: amounts(valkey), lambda told: len(told) == 2)
        valkey.flush()
        assert await control.replay("cache", OTHER)
        await eventually(lambda: amounts(valkey), lambda told: told == {OTHER: 11})
        assert not await control.replay("cache", "00000000-0000-0000-0000-0000000000ff")
        with pytest.raises(InputError, match="is not a user's id here"):
            await control.replay("cache", "nobody")
        with pytest.raises(InputError, match="did you mean cache"):
            await control.replay("cahce")
    assert await amounts(valkey) == {OTHER: 11}


async def test_after_a_restore_everyone_is_told_the_restored_truth(
    settings: Settings, reference_table18: Database, valkey: Valkey
) -> None:
    """The table and `balances` are as they were an hour ago; the sinks have heard of what came after."""
    async with client(valkey) as link:
        async with leading(settings):
            await eventually(lambda: amounts(valkey), lambda told: len(told) == 2)
        ahead = (await held(valkey))[USER]["version"] + 1
        await link.set(f"credits:{USER}", f'{{"user_id":"{USER}","version":{ahead},"credits":9999}}')
    async with leading(settings), Inspector.opened(settings, purpose="backfill") as inspector:
        assert await inspector.backfill(lambda *_: None)
        assert (await amounts(valkey))[USER] == 9999  # nothing differs from what is stored, so nothing is said
        done = await creditsd("backfill", "--republish", env=environment(CREDITSD_DSN=reference_table18.dsn))
        assert (done.code, "done by the daemon" in done.err) == (0, True), done.err
        await eventually(lambda: amounts(valkey), lambda told: told == {USER: 10, OTHER: 11})
        assert (await held(valkey))[USER]["version"] > ahead


async def test_a_sink_that_is_gone_from_the_settings_is_removed_with_what_it_refused(
    settings: Settings, reference_table18: Database
) -> None:
    reference_table18.run("INSERT INTO creditsd.sinks (name) VALUES ('cache'), ('former')")
    reference_table18.run(
        "INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, last_error) "
        "VALUES ('former', %s, 1, 1, 'no')",
        [USER],
    )
    async with SinkControl.opened(settings) as control:
        with pytest.raises(InputError, match="cache is configured: take it out of the settings"):
            await control.remove("cache")
        with pytest.raises(NotAgreed, match="no daemon leads"):
            await control.remove("former")
        assert await control.remove("former", agreed=True) == 1
        with pytest.raises(InputError, match="no sink is called 'former'"):
            await control.remove("former")
    assert reference_table18.run("SELECT name FROM creditsd.sinks") == [("cache",)]
    assert reference_table18.run("SELECT FROM creditsd.deliveries") == []


async def test_the_commands_say_what_they_did(reference_table18: Database) -> None:
    await installed(reference_table18)
    assert configured(reference_table18).sink_names == []
    reference_table18.run(ADD, [USER, 5])
    env = environment(CREDITSD_DSN=reference_table18.dsn, CREDITSD_SINKS="stdout:")
    assert (await creditsd("backfill", env=env)).code == 0
    reference_table18.run("INSERT INTO creditsd.sinks (name) VALUES ('stdout'), ('former')")
    everything = await creditsd("sinks", "replay", "stdout", env=env)
    one = await creditsd("sinks", "replay", "stdout", USER, env=env)
    nobody = await creditsd("sinks", "replay", "stdout", OTHER, env=env)
    gone = await creditsd("sinks", "remove", "former", "--yes", env=env)
    kept = await creditsd("sinks", "remove", "stdout", env=env)
    assert [done.code for done in (everything, one, nobody, gone, kept)] == [0, 0, 65, 0, 65]
    assert "stdout is told everything again" in everything.out + everything.err
    assert f"stdout is told the newest total of {USER} again" in one.out + one.err
    assert "nothing is stored of the user" in nobody.err
    assert "former is forgotten" in gone.out + gone.err


async def test_a_sink_that_is_told_only_of_events_has_no_total_to_be_told_again(reference_table18: Database) -> None:
    reference_table18.run(ADD, [USER, 5])
    secret = "whsec_dGhpcnR5LXR3byBieXRlcyBvZiBhIHRlc3QncyBrZXk="
    hook = {"name": "hook", "url": "webhook+https://example.com/", "secret": secret, "events": ["plan.expired"]}
    settings = await installed(reference_table18, sinks=[hook])
    async with SinkControl.opened(settings) as control:
        with pytest.raises(InputError, match=r"hook is told of no totals, only of plan\.expired"):
            await control.replay("hook", USER)
    assert reference_table18.run("SELECT FROM creditsd.deliveries") == []


async def test_where_each_step_is_told_all_of_them_are_told_again_or_one_users_newest(
    reference_table18: Database,
) -> None:
    lines = {"name": "memory", "url": "stdout:", "mode": "every"}
    settings = await installed(reference_table18, sinks=[lines], history={"days": 1})
    sink = MemorySink()

    def told() -> list[int]:
        return [int(each.credits) for each in sink.totals]

    async with (
        Line.settled(settings) as line,
        publishers(settings) as publishing,
        publishing(sink, every=True) as publisher,
    ):
        for amount in (1, 2, 3):
            reference_table18.run(ADD, [USER, 1])
            publisher.offer(await line.settle())
            await sink.until_credits(USER, amount)
        async with SinkControl.opened(settings) as control:
            assert await control.replay("memory", USER)
            publisher.tell()
            await sink.until(lambda: told()[3:] == [3])
            assert await control.replay("memory")
            publisher.tell()
            await sink.until(lambda: told()[4:] == [1, 2, 3])
            with pytest.raises(InputError, match="is not a user's id here"):
                await control.replay("memory", "nonsense")
            assert not await control.replay("memory", OTHER)
