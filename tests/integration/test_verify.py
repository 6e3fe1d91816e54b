"""verify: what is stored, and what sinks hold, against the truth; and how drift is mended."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import orjson
import pytest
import redis.asyncio as redis

from creditsd.admin.inspect import Inspector
from creditsd.admin.verify import Drift, Verdict, Verifier
from creditsd.config.settings import Settings
from creditsd.domain.errors import ConfigError, InputError, SinkUnavailable
from creditsd.postgres.connections import connected
from creditsd.totals.comparison import Compared, Comparison
from tests.acceptance.command import creditsd, environment
from tests.conftest import Database, eventually
from tests.integration.leading import leading, restricted
from tests.integration.line import OTHER, USER, Line, MemorySink, configured, installed, user
from tests.servers import Valkey


async def verify(settings: Settings, *sinks: str, repair: bool = False) -> tuple[Verdict, list[Drift]]:
    drifts: list[Drift] = []
    async with Verifier.opened(settings, sinks) as verifier:
        verdict = await verifier.run(repair=repair, progress=lambda *_: None, report=drifts.append)
    return verdict, drifts


def give(database: Database, users: Sequence[str], amount: int = 5) -> None:
    database.run(
        "INSERT INTO user_credits (user_id, credits, status, plan_type) "
        "SELECT u, %s, 'active', 'one_time' FROM unnest(%s::uuid[]) AS u",
        [amount, list(users)],
    )


async def read(settings: Settings, users: Sequence[str]) -> None:
    """Wait until the daemon has read every change of these users, and says so."""
    async with connected(settings.dsn, purpose="test") as connection:
        comparison = Comparison(connection, settings.policy)
        await eventually(partial(comparison.unread, users), lambda left: not left)


def versions(database: Database) -> dict[str, int]:
    return dict(database.run("SELECT user_id::text, version FROM creditsd.balances"))


async def held(client: Any) -> dict[str, int]:
    keys = [key async for key in client.scan_iter("credits:*")]
    return {key.decode().removeprefix("credits:"): orjson.loads(await client.get(key))["version"] for key in keys}


async def test_what_is_stored_as_it_should_be_is_clean(reference_table: Database) -> None:
    settings = await installed(reference_table, max_batch_users=10)
    give(reference_table, [user(number) for number in range(95)])
    async with Line.settled(settings):
        pass
    verdict, drifts = await verify(settings)
    assert (verdict.users, verdict.waiting, verdict.clean, drifts) == (95, 0, True, [])


async def test_a_total_that_is_wrong_or_missing_is_found_and_nobody_else(reference_table: Database) -> None:
    settings = await installed(reference_table, max_batch_users=10)
    give(reference_table, [user(number) for number in range(30)])
    async with Line.settled(settings):
        pass
    reference_table.run("UPDATE creditsd.balances SET credits = 7 WHERE user_id = %s", [user(3)])
    reference_table.run("UPDATE creditsd.balances SET membership = 'Pro' WHERE user_id = %s", [user(12)])
    reference_table.run("DELETE FROM creditsd.balances WHERE user_id = %s", [user(29)])
    verdict, drifts = await verify(settings)
    assert [(drift.user_id, drift.kind) for drift in drifts] == [
        (user(3), "wrong"),
        (user(12), "wrong"),
        (user(29), "missing"),
    ]
    assert [drifts[0].stored_credits, drifts[0].true_credits] == [7, 5]
    assert (verdict.drifted, verdict.clean) == (3, False)


async def test_a_change_that_is_not_read_yet_is_no_drift(reference_table: Database) -> None:
    settings = await installed(reference_table)
    give(reference_table, [USER, OTHER])
    async with Line.settled(settings) as line:
        await line.change_reader.save()
    reference_table.run("UPDATE user_credits SET credits = 6 WHERE user_id = %s", [USER])
    verdict, drifts = await verify(settings)
    assert (drifts, verdict.waiting, verdict.clean) == ([], 1, True)


async def test_without_a_daemon_repair_mends_what_is_stored_and_gives_leadership_back(
    reference_table: Database,
) -> None:
    settings = await installed(reference_table)
    give(reference_table, [USER, OTHER])
    async with Line.settled(settings):
        pass
    before = versions(reference_table)
    reference_table.run("UPDATE creditsd.balances SET credits = 7 WHERE user_id = %s", [USER])
    verdict, drifts = await verify(settings, repair=True)
    assert (verdict.clean, [drift.mended for drift in drifts]) == (True, [True])
    after = versions(reference_table)
    assert (after[USER] > before[USER], after[OTHER]) == (True, before[OTHER])
    assert reference_table.run("SELECT credits, cause FROM creditsd.balances WHERE user_id = %s", [USER]) == [
        (5, "repair")
    ]
    async with Line.settled(settings):
        assert (await verify(settings))[0].clean


async def test_with_a_daemon_repair_is_its_own_and_reaches_every_sink(reference_table: Database) -> None:
    settings = await installed(reference_table)
    give(reference_table, [USER, OTHER])
    sink = MemorySink()
    async with leading(settings, ("memory", sink)):
        await sink.until_credits(USER, 5)
        reference_table.run("UPDATE creditsd.balances SET credits = 7 WHERE user_id = %s", [USER])
        verdict, _ = await verify(settings, repair=True)
        assert (verdict.led, verdict.drifted, verdict.mended) == (True, 1, 1)
        await sink.until(lambda: sink.newest[USER].cause == "repair")
        assert sink.newest[USER].version == versions(reference_table)[USER]
    assert reference_table.run("SELECT * FROM creditsd.repairs") == []


@pytest.mark.parametrize("led", [True, False])
async def test_to_repair_takes_three_looks_at_each_user_however_long_the_daemon_takes(
    reference_table: Database, monkeypatch: pytest.MonkeyPatch, led: bool
) -> None:
    settings = await installed(reference_table, max_batch_users=7, sweep_hours=0)
    users = [user(number) for number in range(60)]
    give(reference_table, users)
    looks: Counter[str] = Counter()
    compare = Comparison.compare

    async def counted(comparison: Comparison, asked: Sequence[str]) -> Mapping[str, Compared]:
        looks.update(asked)
        return await compare(comparison, asked)

    monkeypatch.setattr(Comparison, "compare", counted)
    async with AsyncExitStack() as stack:
        if led:
            sink = MemorySink(max_batch=3)
            await stack.enter_async_context(leading(settings, ("memory", sink)))
            await sink.until(lambda: len(sink.newest) == 60)
        else:
            async with Line.settled(settings):
                pass
        reference_table.run("UPDATE creditsd.balances SET credits = 7")
        verdict, _ = await verify(settings, repair=True)
    assert (verdict.drifted, verdict.mended) == (60, 60)
    assert set(looks.values()) == {3}, "found, found again, and found to be mended"


async def test_a_repair_is_not_lost_among_other_changes(reference_table: Database) -> None:
    settings = await installed(reference_table, max_batch_users=7)
    users = [user(number) for number in range(60)]
    give(reference_table, users)
    sink = MemorySink(max_batch=3)
    async with leading(settings, ("memory", sink)):
        await sink.until(lambda: len(sink.newest) == 60)
        reference_table.run("UPDATE creditsd.balances SET credits = 7 WHERE user_id::text < %s", [user(40)])

        async def write() -> None:
            async with reference_table.connect() as connection:
                for number in range(300):
                    await connection.execute(
                        "UPDATE user_credits SET credits = credits + 1 WHERE user_id = %s", [user(40 + number % 20)]
                    )

        writing = asyncio.create_task(write())
        verdict, drifts = await verify(settings, repair=True)
        await writing
        assert (verdict.drifted, verdict.mended) == (40, 40)
        assert {drift.user_id for drift in drifts} == set(users[:40])
        await sink.until(lambda: sink.newest[user(59)].credits == 20)
        stored = versions(reference_table)
        await sink.until(lambda: {name: total.version for name, total in sink.newest.items()} == stored)


async def test_a_cache_that_came_back_empty_is_made_whole(
    reference_table: Database, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("creditsd.admin.verify.SUSPECTS", 60)
    settings = await installed(reference_table, sinks=[{"name": "cache", "url": valkey.url}], max_batch_users=50)
    users = [user(number) for number in range(230)]
    give(reference_table, users)
    async with leading(settings), redis.Redis(host=valkey.host, port=valkey.port) as client:
        await eventually(client.dbsize, lambda size: size == 230)
        valkey.flush()
        give(reference_table, [user(7)])
        await eventually(client.dbsize, lambda size: size == 1)
        verdict, drifts = await verify(settings, "cache")
        assert (verdict.drifted, verdict.compared) == (229, ["cache"])
        assert {(drift.place, drift.kind) for drift in drifts} == {("cache", "missing")}
        verdict, drifts = await verify(settings, "cache", repair=True)
        assert (verdict.drifted, verdict.mended, verdict.clean) == (229, 229, True)
        assert await held(client) == versions(reference_table)
        assert (await verify(settings, "cache"))[0].drifted == 0


async def test_a_cache_that_is_older_newer_or_strange_is_mended(reference_table: Database, valkey: Valkey) -> None:
    settings = await installed(reference_table, sinks=[{"name": "cache", "url": valkey.url}])
    give(reference_table, [user(number) for number in range(5)])
    async with leading(settings), redis.Redis(host=valkey.host, port=valkey.port) as client:
        await eventually(client.dbsize, lambda size: size == 5)
        stored = versions(reference_table)
        for number, change in ((1, -10), (2, 10)):
            text = orjson.dumps({"user_id": user(number), "version": stored[user(number)] + change})
            await client.set(f"credits:{user(number)}", text)
        await client.set(f"credits:{user(3)}", "nothing of ours")
        verdict, drifts = await verify(settings, "cache", repair=True)
        assert [(drift.user_id, drift.kind) for drift in drifts] == [
            (user(1), "older"),
            (user(2), "newer"),
            (user(3), "missing"),
        ]
        assert verdict.clean
        assert await held(client) == versions(reference_table)


async def test_a_sink_is_told_later_where_no_daemon_leads(reference_table: Database, valkey: Valkey) -> None:
    settings = await installed(reference_table, sinks=[{"name": "cache", "url": valkey.url}])
    give(reference_table, [USER, OTHER])
    async with redis.Redis(host=valkey.host, port=valkey.port) as client:
        async with leading(settings):
            await eventually(client.dbsize, lambda size: size == 2)
        valkey.flush()
        verdict, _ = await verify(settings, "cache", repair=True)
        assert (verdict.drifted, verdict.mended, verdict.led) == (2, 0, False)
        async with leading(settings):
            await eventually(client.dbsize, lambda size: size == 2)
            assert await held(client) == versions(reference_table)


async def test_what_a_sink_has_lost_is_found_though_a_change_of_the_user_is_not_read_yet(
    reference_table: Database, valkey: Valkey
) -> None:
    # It was taken for news on its way, and was none: a change that leaves the total as it is tells nobody anything.
    settings = await installed(reference_table, sinks=[{"name": "cache", "url": valkey.url}])
    give(reference_table, [USER, OTHER])
    async with redis.Redis(host=valkey.host, port=valkey.port) as client:
        async with leading(settings):
            await eventually(client.dbsize, lambda size: size == 2)
        valkey.flush()
        reference_table.run("UPDATE user_credits SET credits = credits WHERE user_id = %s", [USER])
        verdict, drifts = await verify(settings, "cache", repair=True)
        assert ({drift.user_id for drift in drifts}, verdict.waiting) == ({USER, OTHER}, 0)
        async with leading(settings):
            await eventually(client.dbsize, lambda size: size == 2)
            assert await held(client) == versions(reference_table)


async def test_what_a_sink_has_yet_to_be_told_is_no_drift(reference_table: Database, valkey: Valkey) -> None:
    settings = await installed(reference_table, sinks=[{"name": "cache", "url": valkey.url}])
    give(reference_table, [USER])
    async with Line.settled(settings):
        pass
    verdict, drifts = await verify(settings, "cache")
    assert (drifts, verdict.waiting) == ([], 1)


async def test_a_sink_that_cannot_tell_is_named(reference_table18: Database) -> None:
    settings = await installed(reference_table18, sinks=[{"name": "lines", "url": "stdout:"}])
    verdict, _ = await verify(settings, "lines")
    assert (verdict.compared, verdict.silent) == ([], ["lines"])


async def test_an_unknown_or_unreachable_sink_is_said(reference_table18: Database, valkey: Valkey) -> None:
    settings = await installed(
        reference_table18,
        sinks=[{"name": "cache", "url": valkey.url}, {"name": "gone", "url": "redis://127.0.0.1:1/0"}],
    )
    with pytest.raises(InputError, match="'cahce': did you mean cache"):
        await verify(settings, "cahce")
    with pytest.raises(SinkUnavailable, match="gone"):
        await verify(settings, "gone")


async def test_a_restricted_role_is_enough_to_verify_and_repair(reference_table: Database, valkey: Valkey) -> None:
    with restricted(reference_table) as (role, seen):
        await installed(reference_table, role=role)
        settings = configured(seen, role=role, sinks=[{"name": "cache", "url": valkey.url}])
        give(reference_table, [USER, OTHER])
        async with leading(settings), redis.Redis(host=valkey.host, port=valkey.port) as client:
            await eventually(client.dbsize, lambda size: size == 2)
            valkey.flush()
            assert (await verify(settings, "cache", repair=True))[0].mended == 2
        reference_table.run("UPDATE creditsd.balances SET credits = 7")
        assert (await verify(settings, repair=True))[0].mended == 2


async def test_the_command_exits_1_on_drift_and_0_once_it_is_mended(reference_table18: Database) -> None:
    settings = await installed(reference_table18)
    give(reference_table18, [USER, OTHER])
    async with Line.settled(settings):
        pass
    env = environment(CREDITSD_DSN=reference_table18.dsn)
    reference_table18.run("UPDATE creditsd.balances SET credits = 7 WHERE user_id = %s", [USER])
    done = await creditsd("verify", env=env)
    drift, verdict = (orjson.loads(line) for line in done.out.splitlines())
    assert (done.code, drift["drift"]["user_id"], verdict["verdict"]["clean"]) == (1, USER, False)
    assert (await creditsd("verify", "--repair", env=env)).code == 0
    assert (await creditsd("verify", "--json", env=env)).code == 0
    done = await creditsd("verify", "--sink", "cache", env=env)
    assert (done.code, "there is none" in done.err) == (65, True), done.err


LOW = {"low_credits": 10, "recovered_credits": 50}
DIFFERS = {
    "events": ({"events": LOW}, {}, "(events.low_credits = 10, events.recovered_credits = 50)"),
    "can_buy": ({"can_buy": "always"}, {"can_buy": "no_credits"}, "(can_buy = always)"),
    "both": ({}, {"expire_empty": "off", "events": LOW}, "(expire_empty = on, events.low_credits = 0, "),
}


@pytest.mark.parametrize(("theirs", "ours", "says"), DIFFERS.values(), ids=DIFFERS)
async def test_whoever_has_other_rules_than_what_is_stored_was_made_by_changes_none_of_it(
    reference_table: Database, theirs: dict[str, Any], ours: dict[str, Any], says: str
) -> None:
    there = await installed(reference_table, **theirs)
    give(reference_table, [USER, OTHER])
    async with Line.settled(there):
        pass
    before = reference_table.run("SELECT b FROM creditsd.balances AS b ORDER BY b.user_id")
    here = configured(reference_table, **ours)
    for repair in (False, True):
        with pytest.raises(ConfigError, match="made with other settings") as refused:
            await verify(here, repair=repair)
        assert says in str(refused.value)
    async with Inspector.opened(here, purpose="test") as inspector:
        with pytest.raises(ConfigError, match="restart the daemon with these"):
            await inspector.backfill(lambda *_: None)
    assert reference_table.run("SELECT b FROM creditsd.balances AS b ORDER BY b.user_id") == before
    assert (await verify(there, repair=True))[0].clean
    async with Inspector.opened(there, purpose="test") as inspector:
        assert not await inspector.backfill(lambda *_: None)


async def test_nothing_is_repaired_by_a_newer_version_than_leads(reference_table: Database) -> None:
    settings = await installed(reference_table, events=LOW)
    give(reference_table, [USER])
    async with Line.settled(settings):
        pass
    older = settings.events.model_dump_json()
    reference_table.run("UPDATE creditsd.reader SET policy = regexp_replace(policy, '{.*', %s)", [older])
    with pytest.raises(ConfigError, match="made by an older daemon: restart it first"):
        await verify(settings, repair=True)
