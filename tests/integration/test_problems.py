"""Users that are set aside, because of what their rows hold or what the table refuses; all others never notice."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from creditsd.admin.inspect import Inspector
from creditsd.admin.verify import Verifier
from creditsd.domain.errors import DatabaseUnavailable, RowsError
from creditsd.domain.user_id import LONGEST_BYTES
from creditsd.postgres.batches import recomputed
from creditsd.postgres.connections import connected
from tests.conftest import Database
from tests.integration.line import OTHER, USER, Line, as_role, installed, user
from tests.servers import REFERENCE_TABLE

ADD = "INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES (%s, %s, 'active', %s)"
PROBLEMS = "SELECT user_id::text, problem FROM creditsd.problems ORDER BY 1, 2"
HUGE = "9" * 131_072  # the largest whole number that numeric holds; two of them are beyond it


async def test_whose_rows_cannot_be_summed_is_set_aside_and_named_and_nobody_else_notices(database: Database) -> None:
    database.run(REFERENCE_TABLE)
    database.run("ALTER TABLE user_credits ALTER credits TYPE numeric")
    settings = await installed(database)
    async with Line.settled(settings) as line:
        for number in range(1, 6):
            database.run(ADD, [user(number), number, "subscription"])
        await line.settle()
        database.run("UPDATE user_credits SET credits = credits + 10")
        for _ in range(2):
            database.run(ADD, [user(3), HUGE, "subscription"])
        totals = {total.user_id: int(total.credits) for total in await line.settle()}
        assert totals == {user(number): number + 10 for number in (1, 2, 4, 5)}
        assert database.run(PROBLEMS) == [(user(3), "not summed")]
        ((reason,),) = database.run("SELECT reason FROM creditsd.problems")
        assert "overflow" in str(reason)
        async with Inspector.opened(settings, purpose="test") as inspector:
            found = await inspector.explain(user(3))
            assert (found.total, [each.problem for each in found.problems], len(found.rows)) == (
                None,
                ["not summed"],
                3,
            )
            assert found.stored is not None
            assert [(each.problem, each.users, each.one) for each in (await inspector.status()).set_aside] == [
                ("not summed", 1, user(3))
            ]
            async with Verifier.opened(settings, []) as verifier:
                verdict = await verifier.run(repair=True, progress=lambda *_: None, report=lambda _: None)
                assert (verdict.users, verdict.set_aside, verdict.drifted, verdict.clean) == (5, 1, 0, False)
            with pytest.raises(RowsError, match=f"the rows of '{user(3)}' cannot be summed up: value overflows"):
                await inspector.total(user(3))
        # Their next change is tried again, and no other change is held up by them.
        database.run(ADD, [user(1), 1, "subscription"])
        assert [int(total.credits) for total in await line.settle()] == [12]
        database.run("DELETE FROM user_credits WHERE credits > 1000")
        assert [(total.user_id, int(total.credits)) for total in await line.settle()] == [(user(3), 13)]
        assert database.run(PROBLEMS) == []


@pytest.mark.parametrize("bad", [2, 5, 7])
async def test_a_page_of_a_long_pass_that_is_tried_again_passes_nobody_by(database: Database, bad: int) -> None:
    database.run(REFERENCE_TABLE)
    database.run("ALTER TABLE user_credits ALTER credits TYPE numeric")
    async with Line.settled(await installed(database)) as line:
        for number in range(1, 8):
            database.run(ADD, [user(number), number, "subscription"])
        for _ in range(2):
            database.run(ADD, [user(bad), HUGE, "subscription"])
        pages = [await line.change_reader.drain(3)]
        while pages[-1].page["full"]:
            pages.append(await line.change_reader.drain(3))
        told = {total.user_id: int(total.credits) for page in pages for total in page.totals}
        assert told == {user(number): number for number in range(1, 8) if number != bad}
        assert [page.page["users"] for page in pages] == [3, 3, 1]
        assert database.run(PROBLEMS) == [(user(bad), "not summed")]


@pytest.mark.parametrize("indexed", [True, False])
async def test_a_resync_and_a_time_that_has_come_pass_by_whoever_cannot_be_summed(
    database: Database, indexed: bool
) -> None:
    database.run(REFERENCE_TABLE)
    if not indexed:
        database.run("DROP INDEX user_credits_user_id")
    database.run(
        "CREATE FUNCTION public.picky(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN "
        "IF $1 = 'bad' THEN RAISE EXCEPTION 'no such plan: %', $1; END IF; RETURN $1; END $$; "
        "CREATE TYPE plan AS (name text); "
        "CREATE FUNCTION public.plan_text(plan) RETURNS text LANGUAGE sql IMMUTABLE AS "
        "$$ SELECT public.picky(($1).name) $$; "
        "CREATE CAST (plan AS text) WITH FUNCTION public.plan_text(plan) AS ASSIGNMENT; "
        "ALTER TABLE user_credits ALTER membership TYPE plan USING NULL"
    )
    async with Line.settled(await installed(database)) as line:
        pro = "(%s, 5, 'active', ROW('Pro')::plan)"
        for each in (USER, OTHER):
            database.run(f"INSERT INTO user_credits (user_id, credits, status, membership) VALUES {pro}", [each])
        assert len(await line.settle()) == 2
        database.run("UPDATE user_credits SET membership = ROW('bad')::plan WHERE user_id = %s", [USER])
        database.run("UPDATE user_credits SET credits = 7 WHERE user_id = %s", [OTHER])
        database.run("UPDATE creditsd.balances SET recheck_at = now()")
        due = await line.recomputer.recompute_due(100)
        assert [(total.user_id, int(total.credits)) for total in due.totals] == [(OTHER, 7)]
        assert database.run(PROBLEMS) == [(USER, "not summed")]
        database.run("DELETE FROM creditsd.problems; SELECT creditsd.begin_resync('backfill')")
        assert (await line.recomputer.resync_next(100)).page["done"]
        assert database.run(PROBLEMS) == [(USER, "not summed")]


async def test_a_row_that_may_not_be_expired_waits_alone(reference_table: Database) -> None:
    reference_table.run("CREATE UNIQUE INDEX ON user_credits (user_id, plan_type, status)")
    async with Line.settled(await installed(reference_table)) as line:
        reference_table.run(
            "INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES (%s, 0, 'expired', 'one_time')",
            [USER],
        )
        for number in range(1, 52):
            reference_table.run(ADD, [user(number), 5, "one_time"])
        await line.settle()
        reference_table.run("UPDATE user_credits SET credits = 0")
        totals = await line.settle()
        assert {total.membership_status for total in totals} == {"expired"}
        assert len(totals) == 51
        assert reference_table.run("SELECT user_id::text FROM user_credits WHERE status = 'active'") == [(USER,)]
        assert reference_table.run(PROBLEMS) == [(USER, "not expired")]
        ((recheck,),) = reference_table.run(
            "SELECT recheck_at - now() FROM creditsd.balances WHERE user_id = %s", [USER]
        )
        assert isinstance(recheck, timedelta)
        assert timedelta(seconds=30) < recheck <= timedelta(minutes=1)
        reference_table.run("DELETE FROM user_credits WHERE user_id = %s AND status = 'expired'", [USER])
        await line.settle()
        assert reference_table.run("SELECT DISTINCT status FROM user_credits") == [("expired",)]
        assert reference_table.run(PROBLEMS) == []


async def test_the_tables_own_triggers_find_what_they_find_when_its_owner_writes(database: Database, role: str) -> None:
    database.run(f"CREATE SCHEMA shop AUTHORIZATION {role}; ALTER ROLE {role} SET search_path = shop, public")
    application = as_role(database, role)
    application.run(REFERENCE_TABLE.replace("public.", "shop."))
    application.run(
        "CREATE TABLE audit_log (what text); "
        "CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO audit_log VALUES (NEW.status); RETURN NULL; END $$; "
        "CREATE TRIGGER audit AFTER UPDATE ON user_credits FOR EACH ROW EXECUTE FUNCTION audited()"
    )
    settings = await installed(database, source={"table": "shop.user_credits"})
    async with Line.settled(settings) as line:
        application.run(ADD, [USER, 0, "one_time"])
        assert [total.cause for total in await line.settle()] == ["auto-expire"]
        assert application.run("SELECT what FROM audit_log") == [("expired",)]
        cursor = await line.connection.execute("SELECT current_setting('search_path')")
        assert await cursor.fetchone() == ("pg_catalog, pg_temp",)


@pytest.mark.parametrize("way", ["short", "general"])
async def test_the_tables_own_triggers_write_under_policies_as_when_its_owner_writes(
    database: Database, role: str, way: str
) -> None:
    database.run(f"GRANT CREATE ON SCHEMA public TO {role}")
    application = as_role(database, role)
    application.run(REFERENCE_TABLE)
    application.run(
        "CREATE TABLE audit_log (what text); "
        "ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; "
        "CREATE POLICY expiries ON audit_log USING (true) WITH CHECK (what = 'expired'); "
        "CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO public.audit_log VALUES (NEW.status); RETURN NULL; END $$; "
        "CREATE TRIGGER audit AFTER UPDATE OF status ON user_credits FOR EACH ROW EXECUTE FUNCTION audited()"
    )
    async with Line.settled(await installed(database)) as line:
        application.run(ADD, [USER, 0, "one_time"])
        if way == "short":
            drained = await line.change_reader._drain_few()
        else:
            line.change_reader._until_few = 1
            drained = await line.change_reader.drain(2000)
        assert drained is not None
        assert [total.cause for total in drained.totals] == ["auto-expire"]
    assert application.run("SELECT what FROM audit_log") == [("expired",)]
    assert database.run(PROBLEMS) == []


async def test_an_operator_on_the_owners_path_is_not_taken_when_a_plan_is_expired(
    database: Database, role: str
) -> None:
    database.run(f"GRANT CREATE ON SCHEMA public TO {role}")
    application = as_role(database, role)
    application.run(REFERENCE_TABLE)
    database.run(
        "CREATE TABLE caught (what text); GRANT ALL ON caught TO PUBLIC; "
        "CREATE FUNCTION lie(tid, tid) RETURNS boolean LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO public.caught VALUES (current_user); RETURN true; END $$; "
        "CREATE OPERATOR public.= (LEFTARG = tid, RIGHTARG = tid, FUNCTION = lie); "
        "CREATE FUNCTION unnest(oid[], tid[], OUT oid, OUT tid) RETURNS SETOF record LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO public.caught VALUES (current_user); END $$"
    )
    async with Line.settled(await installed(database)) as line:
        application.run(ADD, [USER, 0, "one_time"])
        assert [total.cause for total in await line.settle()] == ["auto-expire"]
    assert database.run("SELECT what FROM caught") == []


@pytest.mark.parametrize("type_", ["text", "varchar(9000)"])
@pytest.mark.parametrize("compressed", [False, True])
async def test_an_id_too_long_for_an_index_fails_no_write_and_is_named(
    database: Database, type_: str, compressed: bool
) -> None:
    database.run(f"CREATE TABLE user_credits (user_id {type_}, credits int, status text)")
    dice = random.Random(1)  # what repeats itself is compressed, and would fit
    long, fits = ("".join(chr(dice.randrange(33, 127)) for _ in range(size)) for size in (9000, LONGEST_BYTES))
    if compressed:
        long = "x" * len(long)
    settings = await installed(database)
    async with Line.settled(settings) as line:
        for user_id in (long, fits, "usual"):
            database.run("INSERT INTO user_credits VALUES (%s, 5, 'active')", [user_id])
        database.run("UPDATE user_credits SET credits = credits + 1")
        await line.settle()
        assert await line.stored() == {fits: 6, "usual": 6}
        database.run("SELECT creditsd.begin_resync('backfill')")
        while not (await line.recomputer.resync_next(2)).page["done"]:
            pass
        assert await line.stored() == {fits: 6, "usual": 6}
        assert database.run(PROBLEMS) == [(long[:100], "id too long")]
        database.run("UPDATE user_credits SET user_id = 'moved' WHERE length(user_id) > 5000")
        database.run("UPDATE user_credits SET user_id = %s WHERE user_id = 'usual'", [long])
        assert {total.user_id: int(total.credits) for total in await line.settle()} == {"moved": 6, "usual": 0}
        database.run("DELETE FROM user_credits")
        await line.settle()


ENDED_BY_AN_ERROR = """
SELECT NULL::jsonb, 1 / (CASE WHEN pg_terminate_backend(pg_backend_pid()) THEN 0 * random() END)::integer
"""


async def test_a_session_that_is_ended_before_each_is_tried_apart_is_the_databases_failure(database: Database) -> None:
    # It ended the daemon, as a bug would.
    async with connected(database.dsn, purpose="test") as connection:
        with pytest.raises(DatabaseUnavailable, match="connection"):
            await recomputed(connection, ENDED_BY_AN_ERROR, None)
