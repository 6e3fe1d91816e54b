"""Who is marked, and that a reader of snapshots never skips anybody, however transactions interleave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from creditsd.config.settings import Settings
from creditsd.domain.errors import SchemaError
from tests.conftest import Database
from tests.integration.line import OTHER, USER, Line, installed, user
from tests.integration.marks import stored, waiting
from tests.integration.play import ADD, Play, Session


@pytest.fixture
async def own(reference_table: Database) -> AsyncIterator[tuple[Session, Line]]:
    """The application's session and a settled reader on a database of the test's own, whose schema it may alter."""
    async with reference_table.connect() as connection, Line.settled(await installed(reference_table)) as settled:
        yield connection, settled


async def truth(session: Session) -> dict[str, Any]:
    """What everyone has, by the table alone."""
    rows = await session.execute(
        "SELECT user_id::text, sum(credits) FROM user_credits WHERE status = 'active' AND user_id IS NOT NULL "
        "AND (expires_at IS NULL OR expires_at > now()) GROUP BY 1 HAVING sum(credits) <> 0"
    )
    return {str(name): amount for name, amount in await rows.fetchall()}


# Who is marked.


@pytest.mark.parametrize(
    ("change", "marked"),
    [
        ("INSERT INTO user_credits (id, user_id) VALUES (2, $2)", {OTHER}),
        ("UPDATE user_credits SET credits = 7", {USER}),
        ("UPDATE user_credits SET credits = NULL", {USER}),
        ("UPDATE user_credits SET status = 'expired'", {USER}),
        ("UPDATE user_credits SET plan_type = 'one_time'", {USER}),
        ("UPDATE user_credits SET membership = 'Pro'", {USER}),
        ("UPDATE user_credits SET subscription_id = 's'", {USER}),
        ("UPDATE user_credits SET expires_at = now()", {USER}),
        ("UPDATE user_credits SET created_at = now() - interval '1 day'", {USER}),
        ("UPDATE user_credits SET user_id = $2", {USER, OTHER}),
        ("UPDATE user_credits SET user_id = NULL", {USER}),
        ("DELETE FROM user_credits", {USER}),
        # Whatever the column: to compare them costs a writer more than looking again costs the daemon.
        ("UPDATE user_credits SET note = 'x'", {USER}),
        ("UPDATE user_credits SET credits = credits, status = status", {USER}),
        ("UPDATE user_credits SET credits = 7 WHERE false", set()),
        ("INSERT INTO user_credits (id, user_id) VALUES (1, $2) ON CONFLICT DO NOTHING", set()),
        ("INSERT INTO user_credits (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET credits = 9", {USER}),
        (
            """
            MERGE INTO user_credits AS t USING (VALUES (1), (2)) AS s (id) ON s.id = t.id
            WHEN MATCHED THEN UPDATE SET credits = 3 WHEN NOT MATCHED THEN INSERT (id, user_id) VALUES (s.id, $2)
            """,
            {USER, OTHER},
        ),
        ("MERGE INTO user_credits AS t USING (VALUES (1)) AS s (id) ON s.id = t.id WHEN MATCHED THEN DELETE", {USER}),
        ("DELETE FROM people", {USER}),
        ("UPDATE people SET id = $2", {USER, OTHER}),
        ("WITH moved AS (DELETE FROM user_credits RETURNING *) INSERT INTO archive SELECT credits FROM moved", {USER}),
    ],
)
async def test_a_change_marks_whom_it_concerns(
    installation: Database, application: Session, line: Line, change: str, marked: set[str]
) -> None:
    if "MERGE" in change and installation.server.version < 15:
        pytest.skip("MERGE came with 15")
    await application.execute("INSERT INTO people VALUES (%s)", [USER])
    if "$2" in change and "people" not in change:
        await application.execute("INSERT INTO people VALUES (%s)", [OTHER])
    await application.execute(
        "INSERT INTO user_credits (id, user_id, credits, status) VALUES (1, %s, 5, 'active')", [USER]
    )
    await line.settle()
    await application.execute(
        "ALTER TABLE user_credits ADD CONSTRAINT person FOREIGN KEY (user_id) REFERENCES people "
        "ON DELETE CASCADE ON UPDATE CASCADE"
    )
    try:
        await application.execute(change.replace("$2", f"'{OTHER}'").encode())
    finally:
        await application.execute("ALTER TABLE user_credits DROP CONSTRAINT person")
    assert set(await line.marked()) == marked
    await line.settle()
    assert await stored(line) == await truth(application)


async def test_copy_marks_everyone_it_brings(application: Session, line: Line) -> None:
    async with application.cursor().copy("COPY user_credits (user_id, credits, status) FROM STDIN") as copy:
        for number in range(300):
            await copy.write_row((user(number % 100), number, "active"))
    assert set(await line.marked()) == {user(number) for number in range(100)}
    await line.settle()
    assert await stored(line) == await truth(application)


async def test_a_write_of_replication_marks_too(application: Session, line: Line) -> None:
    await application.execute("SET session_replication_role = replica")
    await application.execute(ADD, [USER, 5])
    await application.execute("UPDATE user_credits SET credits = 6")
    assert set(await line.marked()) == {USER}
    await line.settle()
    assert await line.stored() == {USER: 6}
    await application.execute("TRUNCATE user_credits")
    await line.settle()
    assert await line.stored() == {USER: 0}


async def test_truncate_means_everyone_and_only_once_committed(application: Session, line: Line) -> None:
    for number in range(5):
        await application.execute(ADD, [user(number), 5])
    await line.settle()
    async with application.transaction(force_rollback=True):
        await application.execute("TRUNCATE user_credits")
    assert await line.settle() == []
    await application.execute("TRUNCATE user_credits")
    assert len(await line.settle()) == 5
    assert await stored(line) == {}
    assert await line.settle() == []


async def test_our_own_expiring_marks_nobody(application: Session, line: Line) -> None:
    await application.execute(ADD, [USER, 0])
    await application.execute("UPDATE user_credits SET plan_type = 'one_time'")
    (total,) = await line.settle()
    assert total.cause == "auto-expire"
    assert await line.marked() == []
    assert await line.settle() == []
    await application.execute("UPDATE user_credits SET status = 'active', credits = 4")
    await application.execute("UPDATE user_credits SET status = 'expired'")
    assert await line.marked() == [USER, USER]


async def test_what_a_trigger_of_the_application_adds_while_we_expire_is_marked(own: tuple[Session, Line]) -> None:
    application, line = own
    await application.execute(
        """
        CREATE FUNCTION console() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO public.user_credits (user_id, credits, status) VALUES (NEW.user_id, 1, 'active');
            RETURN NULL;
        END $$;
        CREATE TRIGGER console AFTER UPDATE ON user_credits FOR EACH ROW WHEN (NEW.status = 'expired')
        EXECUTE FUNCTION console();
        """
    )
    await application.execute(ADD, [USER, 0])
    await application.execute("UPDATE user_credits SET plan_type = 'one_time'")
    await line.settle()
    assert await line.stored() == {USER: 1}


async def test_the_marks_of_one_transaction_are_of_its_writer_alone(application: Session, line: Line) -> None:
    async with application.transaction(force_rollback=True):
        await application.execute(ADD, [USER, 5])
    assert await line.marked() == []
    async with application.transaction():
        await application.execute(ADD, [USER, 5])
        async with application.transaction(force_rollback=True):
            await application.execute(ADD, [OTHER, 5])
        async with application.transaction():
            await application.execute(ADD, [user(3), 5])
    assert await line.marked() == [USER, user(3)]


async def test_a_table_loaded_without_triggers_is_made_good_by_a_resync(own: tuple[Session, Line]) -> None:
    application, line = own
    await application.execute("ALTER TABLE user_credits DISABLE TRIGGER ALL")
    await application.execute(ADD, [USER, 5])
    assert await line.settle() == []
    await application.execute("INSERT INTO creditsd.resyncs (cause) VALUES ('backfill')")
    assert [total.credits for total in await line.settle()] == [5]


# A table that is altered under us.


@pytest.mark.parametrize("column", ["user_id", "credits", "status", "membership"])
async def test_a_renamed_column_fails_no_write_and_none_of_them_is_missed(
    own: tuple[Session, Line], reference_table: Database, column: str
) -> None:
    application, line = own
    await application.execute(ADD, [USER, 5])
    await line.settle()
    await application.execute(f"ALTER TABLE user_credits RENAME {column} TO renamed".encode())
    names = {"user_id": "user_id", "credits": "credits", "status": "status", column: "renamed"}
    add = "INSERT INTO user_credits ({user_id}, {credits}, {status}) VALUES (%s, 1, 'active')".format(**names)
    await application.execute(add.encode(), [OTHER])
    await application.execute("UPDATE user_credits SET {credits} = {credits} + 1".format(**names).encode())
    with pytest.raises(SchemaError, match=rf"{column} does not exist"):
        await line.settle()
    assert await line.stored() == {USER: 5}
    settings = await installed(reference_table, source={"columns": {column: "renamed"}})
    async with Line.settled(settings) as again:
        assert await again.stored() == {USER: 6, OTHER: 2}
        await application.execute("DELETE FROM user_credits WHERE {user_id} = %s".format(**names).encode(), [OTHER])
        await again.settle()
        assert await again.stored() == {USER: 6, OTHER: 0}


async def test_a_write_after_a_rename_is_seen_though_another_was_read_while_it_was_open(
    own: tuple[Session, Line], reference_table: Database
) -> None:
    application, _ = own
    await application.execute(ADD, [USER, 5])
    await application.execute("ALTER TABLE user_credits RENAME user_id TO owner")
    await application.execute("UPDATE user_credits SET credits = 6")
    async with reference_table.connect() as late:
        async with late.transaction():
            await late.execute("UPDATE user_credits SET credits = 7")
            settings = await installed(reference_table, source={"columns": {"user_id": "owner"}})
            async with Line.settled(settings) as line:
                assert await line.stored() == {USER: 6}
        async with Line.settled(settings) as line:
            assert await line.stored() == {USER: 7}


async def test_a_table_that_is_dropped_leaves_the_last_totals(own: tuple[Session, Line]) -> None:
    application, line = own
    await application.execute(ADD, [USER, 5])
    await line.settle()
    await application.execute("DROP TABLE user_credits")
    await application.execute("INSERT INTO creditsd.resyncs (cause) VALUES ('backfill')")
    with pytest.raises(SchemaError, match=r"user_credits.* does not exist"):
        await line.settle()
    assert await line.stored() == {USER: 5}


# The cursor.


async def test_a_transaction_that_was_open_at_one_drain_is_read_by_the_next(installation: Database, line: Line) -> None:
    async with installation.connect() as early, installation.connect() as late:
        async with early.transaction():
            await early.execute(ADD, [USER, 5])
            await late.execute(ADD, [OTHER, 6])
            assert [total.user_id for total in await line.settle()] == [OTHER]
            assert await line.settle() == []
            await line.change_reader.save()
        assert [total.user_id for total in await line.settle()] == [USER]


async def test_a_restarted_reader_goes_on_where_the_saved_cursor_says(
    installation: Database, settings: Settings
) -> None:
    async with installation.connect() as early, installation.connect() as late:
        async with early.transaction():
            await early.execute(ADD, [USER, 5])
            async with Line.settled(settings) as line:
                await late.execute(ADD, [OTHER, 6])
                await line.settle()
                await line.change_reader.save()
            await late.execute(ADD, [OTHER, 6])
        async with Line.opened(settings) as line:
            assert line.resumption.resyncing is None
            assert set(await line.marked()) == {USER, OTHER}
            await line.settle()
            assert await stored(line) == {USER: 5, OTHER: 12}


async def test_a_large_transaction_is_read_in_pages(application: Session, line: Line) -> None:
    await application.execute(
        "INSERT INTO user_credits (user_id, credits, status) "
        "SELECT lpad(to_hex(n %% 5000), 32, '0')::uuid, 1, 'active' FROM generate_series(1, 20000) AS n".replace(
            "%%", "%"
        )
    )
    pages = [await line.change_reader.drain(3000)]
    while pages[-1].page["full"]:
        pages.append(await line.change_reader.drain(3000))
    # Whoever stands more than once in the transaction is listed once.
    assert [(each.page["changes"], each.page["users"], len(each.totals)) for each in pages] == [
        (12_000, 3000, 3000),
        (8000, 2000, 2000),
    ]
    assert await stored(line) == await truth(application)


async def test_a_page_is_finished_before_newer_changes_are_read(application: Session, line: Line) -> None:
    for number in range(6):
        await application.execute(ADD, [user(number), 1])
    first = await line.change_reader.drain(4)
    assert [total.user_id for total in first.totals] == [user(number) for number in range(4)]
    await application.execute(ADD, [user(0), 1])
    second = await line.change_reader.drain(4)
    assert {total.user_id for total in second.totals} == {user(4), user(5)}
    assert not second.page["full"]
    third = await line.change_reader.drain(4)
    assert {total.user_id for total in third.totals} == {user(0)}


async def test_who_changed_in_many_transactions_is_summed_up_once_a_pass(
    installation: Database, application: Session, line: Line
) -> None:
    for _ in range(4):
        for number in range(3):
            await application.execute(ADD, [user(number), 1])
    pages = [await line.change_reader.drain(2)]
    await application.execute(ADD, [user(1), 1])  # the pass does not show this one
    while pages[-1].page["full"]:
        pages.append(await line.change_reader.drain(2))
    assert [each.page["changes"] for each in pages] == [8, 4]
    assert [each.page["users"] for each in pages] == [2, 1]
    (left,) = (await line.change_reader.drain(2)).totals
    assert (left.user_id, int(left.credits)) == (user(1), 5)
    assert await stored(line) == await truth(application)


async def test_where_the_server_has_no_room_for_the_list_everyone_is_looked_at(
    application: Session, line: Line
) -> None:
    await line.connection.execute("SET work_mem = '64kB'")
    await line.connection.execute("SET temp_file_limit = '256kB'")
    await application.execute(
        "INSERT INTO user_credits (user_id, credits, status) "
        "SELECT lpad(to_hex(n), 32, '0')::uuid, 1, 'active' FROM generate_series(1, 10000) AS n"
    )
    found = await line.change_reader.drain(2000)
    assert (found.page["resyncing"], found.page["changes"]) == ("too many changes to list", 0)
    await line.connection.execute("RESET temp_file_limit")
    await application.execute(ADD, [USER, 1])
    assert len(await line.settle()) == 10_000
    assert await stored(line) == await truth(application)


async def test_a_cursor_that_is_saved_amid_a_pass_loses_nothing(application: Session, settings: Settings) -> None:
    async with Line.settled(settings) as line:
        for number in range(6):
            await application.execute(ADD, [user(number), 1])
        await line.change_reader.drain(2)
        await line.change_reader.save()
    async with Line.opened(settings) as line:
        await line.settle()
        assert await stored(line) == await truth(application)


async def test_a_pass_that_is_begun_anew_on_the_same_connection_lists_its_users_anew(
    application: Session, line: Line
) -> None:
    await line.change_reader.save()
    for number in range(6):
        await application.execute(ADD, [user(number), 1])
    assert (await line.change_reader.drain(2)).page["full"]
    await application.execute(ADD, [user(0), 1])
    await line.change_reader.resume()
    await line.settle(2)
    assert await stored(line) == await truth(application)
    cursor = await line.connection.execute("SELECT name FROM pg_cursors")
    assert await cursor.fetchall() == []  # and leaves no list


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_the_interleaving_the_reader_knows_the_truth_after_each_drain(
    installation: Database, settings: Settings, application: Session, seed: int
) -> None:
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(installation.connect()) for _ in range(6)]
        play = Play(seed, sessions)
        for _ in range(8):
            async with Line.opened(settings) as line:
                position = None
                for _ in range(25):
                    await play.step()
                    act = play.dice.random()
                    if act < 0.2:
                        await line.change_reader.drain(play.dice.randrange(1, 4))
                    elif act < 0.35:
                        await line.settle(play.dice.choice([1, 2, 2000]))
                        assert await stored(line) == await truth(application)
                    elif act < 0.5:
                        await line.change_reader.save()
                    elif act < 0.65:
                        position = await line.change_reader.purge(line.connection, play.dice.randrange(1, 4), position)
        await play.finish()
        async with Line.opened(settings) as line:
            await line.settle()
            assert await stored(line) == await truth(application)
            await line.change_reader.save()
            position = await line.change_reader.purge(line.connection, 3, None)
            while position is not None:
                position = await line.change_reader.purge(line.connection, 3, position)
            assert await waiting(application) == 0
