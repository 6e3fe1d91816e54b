"""`source.where` on a row on which it raises an error: that row's user is set aside, and nobody else."""

from __future__ import annotations

import pytest

from creditsd.admin.inspect import Inspector
from creditsd.admin.verify import Verifier
from creditsd.domain.errors import RowsError
from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.kinds import ADD, PACK, statuses, where, with_kinds
from tests.integration.line import OTHER, USER, Line, MemorySink, said
from tests.integration.running import running, until


async def test_a_row_on_which_it_raises_an_error_sets_its_user_aside_and_nobody_else(database: Database) -> None:
    with_kinds(database)
    settings = await where(database, "100 / share > 10")
    async with Line.settled(settings) as line:
        for name, amount, share in ((USER, 5, 2), (OTHER, 7, 3)):
            database.run(ADD, [name, amount, PACK, "image"])
            database.run("UPDATE user_credits SET share = %s WHERE user_id = %s", [share, name])
        assert len(await line.settle()) == 2
        database.run("UPDATE user_credits SET share = 0, credits = 6 WHERE user_id = %s", [USER])
        database.run("UPDATE user_credits SET credits = 0 WHERE user_id = %s", [OTHER])
        assert [said(total, "user_id", "credits") for total in await line.settle()] == [(OTHER, 0)]
        assert statuses(database) == ["active", "expired"]
        problems = "SELECT user_id::text, problem, reason FROM creditsd.problems"
        assert database.run(problems) == [(USER, "not summed", "division by zero")]
        async with Inspector.opened(settings, purpose="test") as inspector:
            assert [(each.problem, each.one) for each in (await inspector.status()).set_aside] == [("not summed", USER)]
            assert [each.reason for each in (await inspector.explain(USER)).problems] == ["division by zero"]
            with pytest.raises(RowsError, match="cannot be summed up: division by zero"):
                await inspector.total(USER)
            async with Verifier.opened(settings, []) as verifier:
                verdict = await verifier.run(repair=False, progress=lambda *_: None, report=lambda _: None)
                assert (verdict.users, verdict.set_aside, verdict.drifted) == (2, 1, 0)
        database.run("UPDATE user_credits SET share = 4")
        assert [said(total, "user_id", "credits") for total in await line.settle()] == [(USER, 6)]
        assert database.run(problems) == []
    assert (await schema.install(settings)).notes == []


@pytest.mark.parametrize(
    ("condition", "well", "ill"),
    [
        ("to_tsvector('simple', 'bad') @@ to_tsquery('simple', kind)", "bad", "bad &"),
        ("jsonb_path_exists('{\"a\": 1}', kind::jsonpath)", "$.a", "$."),
        ("'image' ~ kind", "im", "("),
        ("kind::integer > 0", "1", "one"),
    ],
)
async def test_whatever_error_one_row_raises_stops_nobody_else(
    database: Database, condition: str, well: str, ill: str
) -> None:
    with_kinds(database)
    sink = MemorySink()
    async with running(await where(database, condition), sink) as daemon:
        await until(daemon, "state", "leading")
        database.run(ADD, [USER, 5, PACK, ill])
        database.run(ADD, [OTHER, 7, PACK, well])
        await sink.until_credits(OTHER, 7)
        database.run("UPDATE user_credits SET kind = %s", [well])
        await sink.until_credits(USER, 5)


async def test_who_is_set_aside_is_not_due_for_ever_before_all_others(database: Database) -> None:
    with_kinds(database)
    async with Line.settled(await where(database, "100 / share > 10")) as line:
        for name in (USER, OTHER):
            database.run(ADD, [name, 5, PACK, "image"])
        database.run("UPDATE user_credits SET expires_at = now() + interval '1 hour', share = 1")
        await line.settle()
        database.run("UPDATE user_credits SET expires_at = now(), share = (user_id = %s)::integer", [OTHER])
        due = (
            "UPDATE creditsd.balances SET recheck_at = now() - CASE user_id WHEN %s THEN interval '2 s' ELSE '1 s' END"
        )
        database.run(due, [USER])
        pages = [await line.recomputer.recompute_due(1) for _ in range(2)]
        assert [total.user_id for page in pages for total in page.totals] == [OTHER]
        assert 0 < pages[1].page["due_seconds"] <= 60


@pytest.mark.parametrize("indexed", [True, False])
async def test_an_empty_plan_is_expired_whatever_it_says_of_others_rows(database: Database, indexed: bool) -> None:
    with_kinds(database)
    if not indexed:
        database.run("DROP INDEX user_credits_user_id")
    async with Line.settled(await where(database, "100 / share > 10")) as line:
        for name, share in ((OTHER, 0), (USER, 1)):
            database.run(ADD, [name, 0, PACK, "image"])
            database.run("UPDATE user_credits SET share = %s WHERE user_id = %s", [share, name])
        await line.settle()
        assert statuses(database) == ["active", "expired"]
