"""The capture triggers alone: whom each write marks, and that no write fails because of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.conftest import Database
from tests.integration.line import OTHER, USER, installed

THIRD = "00000000-0000-0000-0000-000000000003"
ROW = "INSERT INTO user_credits (user_id, credits, status) VALUES ('{}', 5, 'active')"
SPENT = "UPDATE user_credits SET credits = 6 WHERE id = 1"
BOTH = f"VALUES ('{USER}'::uuid, 5, 'active'), ('{OTHER}', 5, 'active')"
UPSERT = "ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, credits = 9"


@dataclass(frozen=True, slots=True)
class Marks:
    """Whom the changes name, and how often everyone was marked."""

    users: list[str]
    everyone: int = 0


def taken(database: Database) -> Marks:
    """Read all marks, and take them away."""
    users = sorted({str(user_id) for (user_id,) in database.run("DELETE FROM creditsd.changes RETURNING user_id")})
    return Marks(users, len(database.run("DELETE FROM creditsd.resyncs RETURNING cause")))


@pytest.fixture
async def table(reference_table: Database) -> Database:
    """The table with a row of USER (id 1) and one of OTHER (id 2), and no mark."""
    await installed(reference_table)
    reference_table.run(ROW.format(USER))
    reference_table.run(ROW.format(OTHER))
    taken(reference_table)
    return reference_table


@pytest.mark.parametrize(
    ("written", "marked"),
    [
        (ROW.format(THIRD), [THIRD]),
        (SPENT, [USER]),
        (f"UPDATE user_credits SET user_id = '{THIRD}' WHERE id = 1", [USER, THIRD]),
        ("UPDATE user_credits SET credits = 6 WHERE id > 2", []),
        ("UPDATE user_credits SET credits = credits", [USER, OTHER]),
        ("DELETE FROM user_credits WHERE id = 2", [OTHER]),
        (
            f"INSERT INTO user_credits (id, user_id, credits, status) VALUES (1, '{THIRD}', 1, 'active') {UPSERT}",
            [USER, THIRD],
        ),
        (
            f"INSERT INTO user_credits (id, user_id, credits, status) VALUES (9, '{THIRD}', 1, 'active') {UPSERT}",
            [THIRD],
        ),
        (f"INSERT INTO user_credits (user_id, credits, status) SELECT * FROM ({BOTH}) AS v", [USER, OTHER]),
        (f"BEGIN; {SPENT}; SAVEPOINT s; DELETE FROM user_credits WHERE id = 2; ROLLBACK TO s; COMMIT", [USER]),
        (f"BEGIN ISOLATION LEVEL REPEATABLE READ; {SPENT}; COMMIT", [USER]),
        (f"BEGIN ISOLATION LEVEL SERIALIZABLE; {SPENT}; COMMIT", [USER]),
        (f"BEGIN; SET LOCAL session_replication_role = replica; {SPENT}; COMMIT", [USER]),
        ("BEGIN; SET CONSTRAINTS ALL DEFERRED; UPDATE user_credits SET credits = 6 WHERE id = 2; COMMIT", [OTHER]),
        ("BEGIN; UPDATE user_credits SET credits = 6; ROLLBACK", []),
        ("WITH gone AS (DELETE FROM user_credits RETURNING user_id) SELECT * FROM gone", [USER, OTHER]),
    ],
)
def test_a_write_marks_whose_rows_it_touched_and_nobody_else(table: Database, written: str, marked: list[str]) -> None:
    table.psql(written)
    assert taken(table) == Marks(sorted(marked))


def test_merge_and_copy_mark_as_other_writes_do(table: Database) -> None:
    table.psql(f"COPY user_credits (user_id, credits, status) FROM STDIN;\n{THIRD}\t5\tactive\n\\.\n")
    assert taken(table) == Marks([THIRD])
    if table.server.version >= 15:
        table.run(
            f"MERGE INTO user_credits AS c USING (VALUES ('{THIRD}'::uuid), ('{OTHER}')) AS v (user_id) "
            "ON c.user_id = v.user_id "
            "WHEN MATCHED AND c.id = 2 THEN DELETE WHEN MATCHED THEN UPDATE SET credits = 7"
        )
        assert taken(table) == Marks([OTHER, THIRD])


def test_whoever_moves_to_or_from_nobody_is_marked_once(table: Database) -> None:
    table.run("ALTER TABLE user_credits ALTER COLUMN user_id DROP NOT NULL")
    table.run("UPDATE user_credits SET user_id = NULL WHERE id = 1")
    assert taken(table) == Marks([USER])
    table.run("UPDATE user_credits SET credits = 7 WHERE id = 1")
    assert taken(table) == Marks([])
    table.run(f"UPDATE user_credits SET user_id = '{THIRD}' WHERE id = 1")
    assert taken(table) == Marks([THIRD])
    table.run(
        "UPDATE user_credits SET user_id = NULL; DELETE FROM user_credits; INSERT INTO user_credits VALUES (DEFAULT)"
    )
    assert taken(table).users == sorted([OTHER, THIRD])


ALTERED = {
    "renamed": ("RENAME COLUMN user_id TO owner_id", "membership"),
    "dropped": ("DROP COLUMN user_id", "membership"),
    "another type": ("ALTER COLUMN user_id TYPE text USING user_id || '-x'", "user_id"),
    "another column": ("DROP COLUMN user_id, ADD COLUMN user_id jsonb DEFAULT '{}'", "membership"),
}


@pytest.mark.parametrize("altered", ALTERED)
async def test_a_column_that_is_no_more_what_it_was_marks_everyone_and_fails_no_write(
    table: Database, altered: str
) -> None:
    alteration, column = ALTERED[altered]
    async with table.connect() as old:  # has plans of the time before
        for written in (SPENT, ROW.format(THIRD), "DELETE FROM user_credits WHERE id > 2"):
            await old.execute(written.encode())
        table.run(f"ALTER TABLE user_credits {alteration}")
        taken(table)
        async with table.connect() as new:
            for session in (old, new):
                for written in (
                    SPENT,
                    f"INSERT INTO user_credits ({column}) VALUES ('x')",
                    "DELETE FROM user_credits WHERE id > 2",
                ):
                    await session.execute(written.encode())
                    assert taken(table) == Marks([], everyone=1), written


async def test_serializable_writers_who_mark_everyone_do_not_fail_because_of_each_other(table: Database) -> None:
    table.run("ALTER TABLE user_credits DROP COLUMN user_id")
    async with table.connect() as one, table.connect() as other:
        for session in (one, other):
            await session.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
            for _ in range(2):
                await session.execute("INSERT INTO user_credits (credits) VALUES (1)")
        for session in (one, other):
            await session.execute("COMMIT")
    assert taken(table) == Marks([], everyone=2)


def test_everyone_is_marked_again_where_the_mark_before_was_rolled_back(table: Database) -> None:
    table.run("ALTER TABLE user_credits DROP COLUMN user_id")
    wrote = "INSERT INTO user_credits (credits) VALUES (1)"
    table.psql(f"BEGIN; SAVEPOINT s; {wrote}; ROLLBACK TO s; {wrote}; {wrote}; COMMIT; {wrote}; {wrote}")
    assert taken(table) == Marks([], everyone=3)


# What capture by statement, or by UPDATE OF user_id, would miss or fail: see docs/performance.md.

MOVES = f"""
CREATE FUNCTION moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.user_id := '{THIRD}'; RETURN NEW; END $$;
CREATE TRIGGER moves BEFORE UPDATE ON user_credits FOR EACH ROW EXECUTE FUNCTION moved()
"""


async def test_both_users_are_marked_where_another_trigger_moves_a_row(table: Database) -> None:
    async with table.connect() as old:  # its plans are of the time before
        await old.execute(SPENT.encode())
        await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await old.execute("SELECT FROM pg_trigger")  # and its snapshot, which does not show the trigger that fires
        table.run(MOVES)
        taken(table)
        await old.execute(SPENT.encode())
        await old.execute("COMMIT")
        assert taken(table) == Marks([USER, THIRD])
        await old.execute(b"UPDATE user_credits SET credits = 6 WHERE id = 2")
        assert taken(table) == Marks([OTHER, THIRD])


def test_both_users_are_marked_where_a_foreign_key_moves_rows(table: Database) -> None:
    table.run(
        "CREATE TABLE users (id uuid PRIMARY KEY); INSERT INTO users SELECT user_id FROM user_credits; "
        "ALTER TABLE user_credits ADD FOREIGN KEY (user_id) REFERENCES users ON UPDATE CASCADE"
    )
    table.run(f"UPDATE users SET id = '{THIRD}' WHERE id = '{USER}'")
    assert taken(table) == Marks([USER, THIRD])


def test_a_write_through_a_table_put_above_ours_marks_its_users(table: Database) -> None:
    table.run("CREATE TABLE above (LIKE user_credits); ALTER TABLE user_credits INHERIT above")
    table.run("UPDATE above SET credits = 6 WHERE id = 1")
    assert taken(table) == Marks([USER])
    table.run("ALTER TABLE user_credits NO INHERIT above; DROP TABLE above")
    table.run("CREATE TABLE above (LIKE user_credits) PARTITION BY RANGE (created_at)")
    table.run("ALTER TABLE above ATTACH PARTITION user_credits DEFAULT")
    table.run(f"UPDATE above SET user_id = '{THIRD}' WHERE id = 2")
    assert taken(table) == Marks([OTHER, THIRD])


def test_a_write_of_many_rows_needs_no_file_of_ours(table: Database) -> None:
    """A statement's rows are kept for its triggers in a file, once they are more than work_mem."""
    fill = "INSERT INTO user_credits (user_id, credits, membership) SELECT '{}', 1, repeat('x', 200)"
    table.run(f"{fill.format(THIRD)} FROM generate_series(1, 4000)")
    taken(table)
    table.psql("SET work_mem = '64kB'; SET temp_file_limit = 64; UPDATE user_credits SET credits = 3")
    assert taken(table) == Marks([USER, OTHER, THIRD])


def test_a_role_that_turns_to_replica_within_a_statement_is_seen(table: Database) -> None:
    table.run(
        "CREATE FUNCTION turned() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM set_config('session_replication_role', 'replica', true); RETURN 1; END $$"
    )
    table.psql("UPDATE user_credits SET credits = turned()")
    assert taken(table) == Marks([USER, OTHER])
