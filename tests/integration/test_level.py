"""Where thresholds are set, a total says whether its credits are low, wherever it is read; elsewhere, nothing of it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from creditsd.admin.inspect import Inspector
from creditsd.admin.verify import Verdict, Verifier
from creditsd.capture.change_reader import ChangeReader
from creditsd.config.settings import Settings
from creditsd.domain.total import Total
from creditsd.totals.recompute import Recomputer
from tests.conftest import Database
from tests.http.asking import KEY, asking, bearer, http, token
from tests.integration.line import OTHER, USER, Line, MemorySink, configured, installed, user
from tests.integration.running import running, until
from tests.integration.test_events import PUT

KEYS = {"level", "low_credits"}


def document(total: Total) -> dict[str, Any]:
    """A total as everybody gets it, which is the same written in one go and by its keys."""
    written = json.loads(total.json())
    assert {name: written[name] for name in KEYS & total.document().keys()} == {
        name: written[name] for name in KEYS & written.keys()
    }
    return dict(written)


async def verified(settings: Settings, *, repair: bool = False) -> Verdict:
    async with Verifier.opened(settings, []) as verifier:
        return await verifier.run(repair=repair, progress=lambda *_: None, report=lambda _: None)


@pytest.mark.parametrize(("low", "recovered"), [("10", "0"), ("10.50", "50.5"), ("0", "50.5")])
async def test_whatever_way_the_credits_go_all_who_tell_a_total_tell_one_level(
    fractions: Database, low: str, recovered: str
) -> None:
    settings = configured(fractions, events={"low_credits": low, "recovered_credits": recovered}, history={"days": 1})
    amounts = ("-3", "0", "0.01", "10", "10.5", "10.51", "50.49", "50.5", "800")
    chance = random.Random(f"{low} {recovered}")
    level: str | None = None
    async with Line.settled(settings) as line, Inspector.opened(settings, purpose="test") as inspector:
        for number in range(40):
            amount = Decimal(chance.choice(amounts))
            fractions.run(PUT, [USER, USER, amount, None])
            was, level = (
                level,
                (
                    "depleted"
                    if amount <= 0
                    else "low"
                    if amount <= Decimal(low) or (level is not None and amount < Decimal(recovered))
                    else None
                ),
            )
            told = document(await inspector.total(USER))
            assert (told["level"], told["low_credits"]) == (level, float(low))
            for total in await line.settle():
                assert (document(total)["level"], document(total)["low_credits"]) == (level, float(low))
                assert total.previous is None or total.previous["level"] == was
            stored = await inspector.stored(USER)
            assert stored is not None
            assert stored.json() == (await inspector.total(USER)).json()
            (step,) = await inspector.history(USER, 1)
            assert step.json() == stored.json()
            if number % 10 == 0:
                assert (await verified(settings)).drifted == 0


async def test_without_a_threshold_nothing_is_said_of_it_anywhere(fractions: Database) -> None:
    settings = configured(fractions, history={"days": 1}, http=http())
    sink = MemorySink()
    async with running(settings, sink) as daemon, Inspector.opened(settings, purpose="test") as inspector:
        await until(daemon, "state", "leading")
        assert settings.http.address is not None
        for amount in (5, 0, 7):
            fractions.run(PUT, [USER, USER, amount, None])
            await sink.until_credits(USER, amount)
        told = [each for page in sink.deliveries for each in page]
        told += [await inspector.total(USER), await inspector.total(OTHER), *await inspector.history(USER, 9)]
        for total in told:
            assert not KEYS & (document(total).keys() | total.document().keys() | (total.previous or {}).keys())
        async with asking(settings.http.address[1]) as client:
            for path in (f"users/{USER}/credits", f"users/{OTHER}/credits"):
                assert not KEYS & (await client.get(f"/v1/{path}", **bearer(KEY))).body["data"].keys()


async def test_reads_streams_and_sinks_tell_it(fractions: Database) -> None:
    settings = configured(
        fractions, events={"low_credits": 10, "recovered_credits": 50}, history={"days": 1}, http=http()
    )
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        await until(daemon, "state", "leading")
        assert settings.http.address is not None
        async with asking(settings.http.address[1]) as client:
            nobody = (await client.read(USER, KEY)).body["data"]
            assert (nobody["level"], nobody["low_credits"], nobody["credits"]) == ("depleted", 10, 0)
            async with client.stream("/v1/me/credits/stream", token(USER)) as mine:
                told = await mine.total()
                assert told == nobody
                for amount, level in ((60, None), (10, "low"), (49, "low"), (50, None)):
                    fractions.run(PUT, [USER, USER, amount, None])
                    told = await mine.total()
                    assert (told["credits"], told["level"], told["low_credits"]) == (amount, level, 10)
                    assert (await client.read(USER, KEY)).body["data"] == told
                    await sink.until_credits(USER, amount)
                    assert json.loads(sink.newest[USER].json()) == told
            (many,) = (await client.post("/v1/credits", {"user_ids": [USER]}, KEY)).body["data"]
            steps = (await client.get("/v1/me/credits/history", **bearer(token(USER)))).body["data"]["steps"]
            assert many == told
            assert [each["level"] for each in steps] == [None, "low", "low", None]


async def test_a_threshold_that_moves_is_told_everyone_whose_total_says_another_thing(fractions: Database) -> None:
    before = configured(fractions, events={"low_credits": 10, "recovered_credits": 50})
    async with Line.settled(before) as line:
        for name, amounts in ((USER, (60, 5, 40)), (OTHER, (40,)), (user(3), (9, 30))):
            for amount in amounts:
                fractions.run(PUT, [name, name, amount, None])
                await line.settle()
        old = dict(fractions.run("SELECT user_id::text, version FROM creditsd.balances"))
    # Of whoever is not between the two, nothing is another: nobody is told.
    async with Line.settled(configured(fractions, events={"low_credits": 10, "recovered_credits": 35})):
        rows = fractions.run("SELECT user_id::text, level, low_credits, version FROM creditsd.balances")
        now = {name: (level, low, version > old[name]) for name, level, low, version in rows}
        assert now == {USER: (None, 10, True), OTHER: (None, 10, False), user(3): ("low", 10, False)}
    async with Line.settled(configured(fractions, events={"low_credits": 8})):
        rows = fractions.run(
            "SELECT user_id::text, level, low_credits, version > %s FROM creditsd.balances", [max(old.values())]
        )
        assert {name: facts for name, *facts in rows} == {name: [None, 8, True] for name in old}
    # None at all any more: nobody's total says it.
    unset = configured(fractions)
    async with Line.settled(unset), Inspector.opened(unset, purpose="test") as inspector:
        for name in old:
            assert not KEYS & document(await inspector.total(name)).keys()
            stored = await inspector.stored(name)
            assert stored is not None
            assert stored.json() == (await inspector.total(name)).json()


async def test_a_daemon_that_cannot_tell_the_level_stores_none_and_the_next_one_tells_everyone(
    fractions: Database,
) -> None:
    settings = configured(fractions, events={"low_credits": 10})
    older = {**settings.policy, "events": settings.events.model_dump_json()}
    async with Line.opened(settings) as line:
        old = replace(
            line, change_reader=ChangeReader(line.connection, older), recomputer=Recomputer(line.connection, older)
        )
        await old.change_reader.resume()
        fractions.run(PUT, [USER, USER, 5, None])
        (told,) = await old.settle()
        assert not KEYS & document(told).keys()
        await old.change_reader.save()
    async with Line.opened(settings) as line:
        (again,) = await line.settle()
        assert again.version > told.version
        assert (document(again)["level"], document(again)["low_credits"]) == ("low", 10)
    # Set back to the older one, with the functions of the newer: what it publishes is what is stored.
    async with Line.opened(settings) as line:
        old = replace(
            line, change_reader=ChangeReader(line.connection, older), recomputer=Recomputer(line.connection, older)
        )
        await old.change_reader.resume()
        (told,) = await old.settle()
        assert not KEYS & document(told).keys()


async def test_what_a_newer_schema_adds_to_the_total_before_is_left_out(reference_table: Database) -> None:
    settings = await installed(reference_table, events={"low_credits": 10})
    async with Line.settled(settings) as line:
        for amount in (5, 6):
            reference_table.run(PUT, [USER, USER, amount, None])
            await line.settle()
    async with Inspector.opened(settings, purpose="test") as inspector:
        before = await inspector.stored(USER)
    reference_table.run("ALTER TYPE creditsd.past ADD ATTRIBUTE something_more text")
    async with Inspector.opened(settings, purpose="test") as inspector:
        after = await inspector.stored(USER)
    assert before is not None
    assert after is not None
    assert after.previous_record != before.previous_record
    assert after.previous == before.previous
    assert before.previous is not None
    assert before.previous["credits"] == 5


async def test_a_level_that_was_stored_wrong_is_drift_and_is_mended(fractions: Database) -> None:
    settings = configured(fractions, events={"low_credits": 10})
    async with Line.settled(settings) as line:
        fractions.run(PUT, [USER, USER, 5, None])
        (total,) = await line.settle()
        assert total.leveled["level"] == "low"
        await line.change_reader.save()
    fractions.run("UPDATE creditsd.balances SET level = NULL")
    assert (await verified(settings)).drifted == 1
    await verified(settings, repair=True)
    assert (await verified(settings)).drifted == 0
    assert fractions.run("SELECT level FROM creditsd.balances") == [("low",)]


async def test_a_total_of_before_there_were_levels_is_told_again_once(fractions: Database) -> None:
    settings = configured(fractions, events={"low_credits": 10})
    async with Line.settled(settings) as line:
        fractions.run(PUT, [USER, USER, 5, None])
        await line.settle()
    fractions.run("UPDATE creditsd.balances SET low_credits = NULL")
    async with Line.opened(settings) as line:
        (total,) = await line.settle()
        assert document(total)["level"] == "low"
        assert total.previous is not None
        assert not KEYS & total.previous.keys()
        await line.connection.execute("SELECT creditsd.begin_resync('backfill')")
        assert await line.settle() == []
