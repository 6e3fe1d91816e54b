"""`source.where`: which rows count at all, by a condition of one's own."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from creditsd.admin.inspect import Inspector
from creditsd.admin.verify import Verifier
from creditsd.config.settings import Settings
from creditsd.domain.errors import ConfigError, SchemaError
from creditsd.schema import install as schema
from tests.conftest import Database, eventually
from tests.integration.kinds import ADD, IMAGES, NONE_MATCHES, PACK, statuses, where, with_kinds
from tests.integration.line import OTHER, USER, Line, MemorySink, as_role, configured, said
from tests.integration.mending import until_mended, until_told
from tests.integration.running import running, until

# What it does.


async def test_rows_come_and_go_with_the_condition_and_all_agree(database: Database) -> None:
    with_kinds(database)
    settings = await where(database, "kind = 'image' AND deleted_at IS NULL")
    async with Line.settled(settings) as line, Inspector.opened(settings, purpose="test") as inspector:
        for amount, kind in ((1, "image"), (2, "video"), (4, None), (8, "image")):
            database.run(ADD, [USER, amount, PACK, kind])
        for change, amount in (
            ("", 9),
            ("UPDATE user_credits SET kind = 'image' WHERE credits = 2", 11),
            ("UPDATE user_credits SET deleted_at = now() WHERE credits = 8", 3),
            ("UPDATE user_credits SET kind = 'other' WHERE credits = 1", 2),
            ("UPDATE user_credits SET deleted_at = NULL", 10),
        ):
            if change:
                database.run(change)
            (total,) = await line.settle()
            assert said(total, "credits", "cause") == (amount, "change")
            assert (await inspector.total(USER)).json() == total.json()
            counted = [int(each.credits or 0) for each in (await inspector.explain(USER)).rows if each.counts]
            assert sum(counted) == amount
            async with Verifier.opened(settings, []) as verifier:
                verdict = await verifier.run(repair=False, progress=lambda *_: None, report=lambda _: None)
                assert (verdict.users, verdict.drifted) == (1, 0)
        left_out = [each for each in (await inspector.explain(USER)).rows if not each.counts]
        assert {each.why for each in left_out} == {"it is left out by source.where"}
        assert {int(each.credits or 0) for each in left_out} == {1, 4}
        assert database.run("SELECT sum(credits) FROM creditsd.source WHERE left_out") == [(5,)]


async def test_who_has_rows_of_which_none_counts_has_expired(database: Database) -> None:
    with_kinds(database)
    async with Line.settled(await where(database, IMAGES)) as line:
        database.run(ADD, [USER, 5, "subscription", "video"])
        (total,) = await line.settle()
        assert said(total, "credits", "membership_status", "plan_type", "can_buy") == (0, "expired", "none", True)


async def test_an_empty_plan_that_is_left_out_is_never_written_to(database: Database) -> None:
    with_kinds(database)
    async with Line.settled(await where(database, IMAGES)) as line:
        database.run(ADD, [USER, 0, PACK, "video"])
        database.run(ADD, [USER, 0, PACK, "image"])
        await line.settle()
        assert statuses(database) == ["active", "expired"]
        async with Inspector.opened(configured(database, source={"where": IMAGES}), purpose="test") as inspector:
            assert (await inspector.explain(USER)).hints == []


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        ("deleted_at IS NULL", 7),
        ("kind IN ('image', 'video')", 3),
        ("kind <> 'image'", 2),
        ("NOT (kind = 'image')", 2),
        ("share > 1 OR kind IS NULL", 6),
        ("users = 1 AND instant = 2", 7),
        ('"The ""kind"", {x} %s" = \'it\'\'s {50%} -- all;\'', 7),
        ("lower(kind) LIKE 'ima%'", 1),
        ("tableoid IS NOT NULL IS TRUE OR true", None),
        ("created_at > '2000-01-01'", 7),
        ("sort = 'image' AND sort IN ('image', 'video')", 1),
        ("(created_at AT TIME ZONE 'UTC')::date > '2000-01-01'", 7),
        ("share::text = '1' OR (share, kind) > (4, 'a')", 1),
        ("named = 'image' OR named LIKE 'vid%'", 7),
        ("kind = 'today'", 0),
        ("(kind = 'image' /* theirs */)\n OR kind = 'video'", 3),
        ("true", 7),
        ("NULL", 0),
    ],
)
async def test_any_condition_on_a_row_can_be_written(database: Database, condition: str, matches: int | None) -> None:
    with_kinds(database)
    database.run("CREATE TYPE sort AS ENUM ('image', 'video')")
    database.run("CREATE DOMAIN name_of AS text CHECK (VALUE <> '')")
    database.run("ALTER TABLE user_credits ADD sort sort, ADD named name_of DEFAULT 'image'")
    database.run(
        "ALTER TABLE user_credits ADD users integer DEFAULT 1, ADD instant integer DEFAULT 2, "
        'ADD "The ""kind"", {x} %%s" text DEFAULT \'it\'\'s {50%%} -- all;\''.replace("%%", "%")
    )
    settings = configured(database, source={"where": condition})
    if matches is None:
        with pytest.raises(ConfigError, match="a system column"):
            await schema.install(settings)
        return
    for amount, kind, share in ((1, "image", 1), (2, "video", 2), (4, None, 3)):
        database.run(ADD, [USER, amount, PACK, kind])
        database.run("UPDATE user_credits SET share = %s, sort = kind::sort WHERE credits = %s", [share, amount])
    await schema.install(settings)
    async with Line.opened(settings) as line:
        assert [int(total.credits) for total in await line.settle()] == [matches]
        database.run("UPDATE user_credits SET credits = 0 WHERE credits = 1")
        await line.settle()
        assert statuses(database).count("expired") == matches % 2
    assert (await schema.install(settings)).done == []


# What is refused.


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("kind = ", r"syntax error at or near"),
        ("kind == 'image'", r"operator does not exist: text == unknown"),
        ("kin = 'image'", r"column .kin. does not exist"),
        ("archive.kind = 'image'", r"missing FROM-clause entry for table .archive."),
        ("nothing(kind)", r"function nothing\(text\) does not exist"),
        ("kind", r"must be (of )?type boolean|not type text"),
        ("share", r"type boolean, not type integer"),
        ("share = 'x'", r"invalid input syntax for type integer"),
        ("count(*) > 1", r"aggregate functions are not allowed"),
        ("rank() OVER () = 1", r"window functions are not allowed"),
        ("EXISTS (SELECT FROM user_credits)", r"cannot use subquery"),
        ("share IN (SELECT 1)", r"cannot use subquery"),
        ("generate_series(1, 2) = 1", r"set-returning functions are not allowed"),
        ("true) OR (1=1", r"syntax error at or near"),
        ("true] OR ARRAY[true", r"syntax error at or near"),
        ("1=1; DROP TABLE user_credits", r"syntax error at or near"),
        ("true); DROP TABLE user_credits; --", r"syntax error at or near|cannot insert multiple commands"),
        ("true)) NOT VALID; DROP TABLE user_credits; --", r"syntax error at or near|cannot insert multiple commands"),
        ("true)) NOT VALID, ADD COLUMN x boolean DEFAULT (public.ran()", r"syntax error at or near"),
        ("true]::boolean[])[1]), ADD COLUMN x boolean DEFAULT (public.ran()", r"syntax error at or near"),
        ("true]::boolean[])[1] FROM user_credits --", r"syntax error at or near"),
        ("true) FROM user_credits --", r"syntax error at or near"),
        ("true) AS a, (public.ran()", r"syntax error at or near"),
        (
            "true]::boolean[])[1], ADD COLUMN x boolean DEFAULT public.ran('), CHECK ((true",
            r"syntax error|unterminated",
        ),
        ("true -- all", r"syntax error at end of input"),
        ("true /* all", r"unterminated /\* comment"),
        ("kind = 'image", r"unterminated quoted string"),
        ('"kind = 1', r"unterminated quoted identifier"),
        ("$$", r"unterminated dollar-quoted string"),
        ("true, true", r"type boolean, not type record|row"),
        ("SELECT true", r"cannot use subquery|syntax error"),
        ("(true", r"syntax error"),
        ("true)", r"syntax error"),
        ("$1", r"there is no parameter \$1"),
        ("t IS NOT NULL", r"column .t. does not exist"),
        ("condition IS NOT NULL", r"reads the row as a whole"),
        ("kind = '$function$'", r"it holds \$function\$"),
        ("random() < 0.5", r"random\(\), which is volatile"),
        ("public.moody(kind)", r"public\.moody\(text\), which is not PostgreSQL's own"),
        ("nextval('user_credits_id_seq') > 1", r"nextval\(regclass\), which is volatile"),
        ("created_at::date > '2000-01-01'", r"depends on settings of the session"),
        ("current_setting('app.kind') = kind", r"current_setting\(text\), which depends on settings"),
        ("kind::regclass IS NULL", r"depends on settings|made of it, by settings"),
        ("kind::public.word = 'x'", r"public\.word, a type|a domain"),
        ("ARRAY[kind]::public.word[] IS NULL", r"public\.word(\[\])?, a type|a domain"),
        ("COALESCE(kind, 'x')::public.word IS NULL", r"public\.word, a type|a domain"),
        ("kind::public.pair IS NULL", r"public\.pair, a type"),
        ("public.same(kind)", r"public\.same\(anyelement\), which is not"),
        ("kind OPERATOR(public.===) kind", r"public\.alike\(text,text\), which is not"),
        ("current_user = kind", r"speaks of|who or where"),
        ("deleted_at::text = kind", r"becomes text, or is made of it"),
        ("kind::interval > '1 day'", r"becomes text, or is made of it"),
        ("now() > deleted_at", r"speaks of the clock \(now\(\)\)"),
        ("deleted_at > transaction_timestamp()", r"clock \(transaction_timestamp\(\)\)"),
        ("deleted_at > statement_timestamp()", r"clock \(statement_timestamp\(\)\)"),
        ("deleted_at > clock_timestamp()", r"clock \(clock_timestamp\(\)\)"),
        ("timeofday() > kind", r"clock \(timeofday\(\)\)"),
        ("age(deleted_at) > '1 day'", r"clock \(age\(timestamp with time zone\)\)"),
        ("deleted_at > current_timestamp", r"clock \(current_timestamp\)"),
        ("deleted_at > current_timestamp(3)", r"clock \(current_timestamp\)"),
        ("deleted_at > current_date", r"clock \(current_date\)"),
        ("deleted_at > localtimestamp", r"clock \(localtimestamp\)"),
        ("deleted_at::time > localtime", r"clock \(localtime\)"),
        ("deleted_at::timetz > current_time", r"clock \(current_time\)"),
        ("CASE WHEN share > 1 THEN deleted_at > now() - interval '1 day' ELSE true END", r"clock \(now\(\)\)"),
        ("deleted_at > 'now'", r"speaks of the clock, and"),
        ("deleted_at > timestamptz 'Today 10:00'", r"speaks of the clock, and"),
        ("deleted_at > ('yesterday'::text)::timestamptz", r"speaks of the clock, and"),
    ],
)
async def test_what_is_not_one_condition_on_a_row_is_refused_in_postgresqls_own_words(
    database: Database, condition: str, says: str
) -> None:
    with_kinds(database)
    database.run("CREATE FUNCTION moody(text) RETURNS boolean VOLATILE LANGUAGE sql AS $$ SELECT true $$")
    database.run(
        "CREATE DOMAIN word AS text; CREATE TYPE pair AS (a text, b word); "
        "CREATE FUNCTION same(anyelement) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true'; "
        "CREATE FUNCTION alike(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true'; "
        "CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = alike)"
    )
    database.run(
        "CREATE FUNCTION ran() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'it has run'; END $$"
    )
    with pytest.raises(ConfigError, match=says) as refused:
        await where(database, condition)
    told = str(refused.value)
    assert "\n" not in told
    assert told.startswith("source.where = ")
    assert ("starts_at" in told) == ("clock" in told)
    assert database.run("SELECT to_regnamespace('creditsd') IS NULL, to_regclass('user_credits') IS NULL") == [
        (True, False)
    ]
    with pytest.raises(ConfigError, match=says):
        await schema.script(configured(database, source={"where": condition}))


async def test_what_stands_before_postgresqls_own_on_the_path_is_not_taken(database: Database, role: str) -> None:
    with_kinds(database)
    database.run(f"GRANT CREATE ON SCHEMA public TO {role}; ALTER TABLE user_credits ALTER kind TYPE varchar(9)")
    as_role(database, role).run(
        "CREATE FUNCTION public.length(varchar) RETURNS integer IMMUTABLE LANGUAGE sql AS 'SELECT 1'; "
        "CREATE FUNCTION alike(varchar, varchar) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true'; "
        "CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = alike)"
    )
    with pytest.raises(ConfigError, match=r"public\.length\(character varying\), which is not PostgreSQL's own"):
        await where(database, "length(kind) > 0")
    with pytest.raises(ConfigError, match=r"public\.alike\(character varying,character varying\), which is not"):
        await where(database, "kind = status::varchar")
    await where(database, "pg_catalog.length(kind) > 0")


# What becomes of it.


async def test_another_condition_recomputes_everyone(database: Database) -> None:
    with_kinds(database)
    settings = await where(database, "kind <> '--a'")
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        await until(daemon, "state", "leading")
        for name, kind in ((USER, "--a"), (OTHER, "--b")):
            database.run(ADD, [name, 5, PACK, kind])
        await sink.until_credits(OTHER, 5)
        await sink.until_credits(USER, 0)
    # Only what an older SQL comment would begin with is another.
    for condition, mine, others in (("kind <> '--b'", 5, 0), ("", 5, 5), (IMAGES, 0, 0)):
        changed = configured(database, source={"where": condition})
        with pytest.raises(SchemaError, match="the settings differ from what is installed: run `creditsd install`"):
            await opened(changed)
        said_by_install = await schema.install(changed)
        assert any(line.endswith("(source.where): everyone is recomputed") for line in said_by_install.done)
        assert said_by_install.notes == ([NONE_MATCHES] if condition == IMAGES else [])
        async with running(changed, sink) as daemon:
            await sink.until_credits(USER, mine)
            await sink.until_credits(OTHER, others)
            await until(daemon, "state", "leading")


async def opened(settings: Settings) -> None:
    async with Line.opened(settings):
        pass


async def test_a_condition_that_no_row_matches_is_said_where_there_are_rows(database: Database) -> None:
    with_kinds(database)
    settings = configured(database, source={"where": "false"})
    assert (await schema.install(settings)).notes == []
    await schema.uninstall(settings)
    database.run(ADD, [USER, 5, PACK, "image"])
    assert (await schema.install(settings)).notes == [NONE_MATCHES]
    async with Line.opened(settings) as line:
        assert [int(total.credits) for total in await line.settle()] == [0]


@pytest.mark.parametrize("change", ["DROP COLUMN kind", "RENAME COLUMN kind TO sort"])
async def test_a_column_it_reads_that_goes_is_noticed(database: Database, change: str) -> None:
    with_kinds(database)
    settings = await where(database, f"{IMAGES} OR share = 1")
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        database.run(ADD, [USER, 5, PACK, "image"])
        await sink.until_credits(USER, 5)
        await until(daemon, "state", "leading")
        database.run(f"ALTER TABLE user_credits {change}")
        await until_told(daemon, "column kind of public.user_credits, which source.where reads, is not there any more")
        database.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')", [USER])
        with pytest.raises(ConfigError, match=r"column .kind. does not exist"):
            await schema.install(settings)
        database.run("ALTER TABLE user_credits ADD kind text DEFAULT 'image'"
                     if "DROP" in change else "ALTER TABLE user_credits RENAME sort TO kind")  # fmt: skip
        await schema.install(settings)
        await until_mended(daemon)
        await sink.until_credits(USER, 10 if "DROP" in change else 5)


async def test_a_column_it_reads_that_gets_another_type_is_noticed_and_read_anew_by_an_install(
    database: Database,
) -> None:
    with_kinds(database)
    database.run("CREATE TYPE sort AS ENUM ('image', 'video')")
    settings = await where(database, IMAGES)
    sink = MemorySink()
    async with running(settings, sink) as daemon:
        database.run(ADD, [USER, 5, PACK, "image"])
        await sink.until_credits(USER, 5)
        await until(daemon, "state", "leading")
        with capture_logs() as logs:

            async def problems() -> list[str]:
                return [str(each["problem"]) for each in logs if each["event"] == "schema.diverged"]

            database.run("ALTER TABLE user_credits ALTER kind TYPE sort USING kind::sort")
            (problem, *_) = await eventually(problems)
        assert problem.endswith(", which source.where reads, is public.sort and was text")
        await until_told(daemon, "which source.where reads|operator does not exist: .* `creditsd install`")
        database.run(ADD, [USER, 2, PACK, "video"])
        database.run(ADD, [USER, 3, PACK, "image"])
        assert "made the functions" in (await schema.install(settings)).done
        await until_mended(daemon)
        await sink.until_credits(USER, 8)
    assert (await schema.install(settings)).done == []


async def test_the_daemon_of_a_restricted_role_needs_no_right_on_what_it_reads(database: Database, role: str) -> None:
    with_kinds(database)
    settings = await where(database, IMAGES, role=role)
    restricted = configured(as_role(database, role), source={"where": IMAGES})
    async with Line.settled(restricted) as line:
        database.run(ADD, [USER, 5, PACK, "image"])
        database.run(ADD, [USER, 0, PACK, "image"])
        assert [int(total.credits) for total in await line.settle()] == [5]
    assert (await schema.install(settings)).done == []


async def test_the_script_installs_the_same(database: Database) -> None:
    with_kinds(database)
    settings = configured(database, source={"where": IMAGES})
    database.run(await schema.script(settings))
    assert (await schema.install(settings)).done == []

    async def left() -> object:
        return database.run("SELECT count(*) FROM pg_class WHERE relname = 'condition'")[0][0]

    await eventually(left, lambda found: found == 0)
