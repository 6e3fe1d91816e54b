"""What an application and its administrators do to a table, drawn at random; a seed tells the whole of it."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable

import psycopg

from tests.conftest import Database
from tests.integration.line import user
from tests.workshop import ServerError

# Tables are locked in an order of their own by whoever alters or drops several: so they give way to a writer, before
# PostgreSQL would have to end one of the two after a second.
GIVE_WAY = "SET LOCAL lock_timeout = '500ms'"
PEOPLE = 8
DRAWS = 5

# Each is several statements, of which PostgreSQL may refuse any in the state the others have left: then it is not done.
TABLES = {
    "plain": "CREATE TABLE user_credits ({columns})",
    "partitioned": """
        CREATE TABLE user_credits ({columns}) PARTITION BY LIST (region);
        CREATE TABLE part_eu PARTITION OF user_credits FOR VALUES IN ('eu');
        CREATE TABLE part_rest PARTITION OF user_credits DEFAULT
    """,
    "inherited": "CREATE TABLE user_credits ({columns}); CREATE TABLE child () INHERITS (user_credits)",
}
DEFINED = "user_id uuid, credits integer, status text, membership text, region text DEFAULT 'eu'"
ALWAYS = "; ".join(
    f"ALTER TABLE user_credits ENABLE ALWAYS TRIGGER creditsd_{event}"
    for event in ("insert", "update", "delete", "truncate")
)
SPEND = "UPDATE user_credits SET credits = credits + 1"
OFF = "ALTER TABLE user_credits DISABLE TRIGGER ALL"
DETACH = "ALTER TABLE user_credits DETACH PARTITION part_eu"
ATTACH = "ALTER TABLE user_credits ATTACH PARTITION part_eu FOR VALUES IN ('eu')"
FORMER = "ALTER TABLE user_credits RENAME TO former"
STATEMENTS = (
    OFF,
    f"{OFF}; {SPEND}; ALTER TABLE user_credits ENABLE TRIGGER ALL",
    f"{OFF}; {SPEND}; {ALWAYS}",
    ALWAYS,
    "ALTER TABLE user_credits ENABLE TRIGGER creditsd_update",
    "ALTER TABLE user_credits DISABLE TRIGGER creditsd_delete; DELETE FROM user_credits WHERE credits < 20",
    "DROP TRIGGER creditsd_insert ON user_credits",
    "ALTER TABLE part_eu DISABLE TRIGGER ALL; UPDATE part_eu SET credits = credits + 2",
    "SET LOCAL session_replication_role = replica; UPDATE user_credits SET credits = credits + 1",
    (
        f"CREATE TABLE copy (LIKE user_credits INCLUDING ALL); INSERT INTO copy SELECT * FROM user_credits; {FORMER}; "
        f"ALTER TABLE copy RENAME TO user_credits; {SPEND}; DROP TABLE former CASCADE"
    ),
    (
        f"CREATE TABLE copy (LIKE user_credits INCLUDING ALL); INSERT INTO copy SELECT * FROM user_credits; {FORMER}; "
        f"ALTER TABLE copy RENAME TO user_credits; {SPEND}; ALTER TABLE former RENAME TO former_{{n}}"
    ),
    f"{FORMER}; CREATE TABLE user_credits (LIKE former) PARTITION BY LIST (region); "
    "ALTER TABLE former RENAME TO part_{n}; ALTER TABLE user_credits ATTACH PARTITION part_{n} DEFAULT; " + SPEND,
    "ALTER TABLE user_credits ALTER credits TYPE bigint",
    "ALTER TABLE user_credits ALTER credits TYPE numeric",
    "ALTER TABLE user_credits ALTER credits TYPE integer USING credits + 3",
    "ALTER TABLE user_credits ALTER status TYPE varchar(20)",
    "ALTER TABLE user_credits ALTER user_id TYPE text; UPDATE user_credits SET credits = credits + 1",
    "ALTER TABLE user_credits ALTER user_id TYPE uuid USING user_id::uuid",
    "ALTER TABLE user_credits DROP COLUMN membership; ALTER TABLE user_credits ADD COLUMN membership text",
    "ALTER TABLE user_credits DROP COLUMN credits; ALTER TABLE user_credits ADD COLUMN credits integer DEFAULT 4",
    "ALTER TABLE user_credits ADD COLUMN note_{n} text; CREATE INDEX ON user_credits (user_id)",
    (
        "ALTER TABLE user_credits RENAME credits TO amount; UPDATE user_credits SET amount = amount + 1; "
        "ALTER TABLE user_credits RENAME amount TO credits"
    ),
    "TRUNCATE user_credits",
    f"{DETACH}; UPDATE part_eu SET credits = credits + 5; {ATTACH}",
    DETACH,
    ATTACH,
    "UPDATE part_eu SET credits = credits + 7",
    "TRUNCATE part_eu",
    (
        "CREATE TABLE part_{n} PARTITION OF user_credits FOR VALUES IN ('r{n}'); "
        "INSERT INTO part_{n} (user_id, credits, status, region) "
        "SELECT user_id, 9, 'active', 'r{n}' FROM user_credits LIMIT 1; "
        "TRUNCATE part_{n}"
    ),
    "CREATE TABLE child_{n} () INHERITS (user_credits); INSERT INTO child_{n} SELECT * FROM ONLY user_credits LIMIT 1",
    "UPDATE child SET credits = credits + 1",
    "ALTER TABLE child NO INHERIT user_credits",
    "ALTER TABLE child INHERIT user_credits",
    "DROP TABLE child",
    "ALTER TABLE user_credits SET UNLOGGED",
    "CREATE OR REPLACE FUNCTION creditsd.capture_update() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
)
AWAY = (
    (FORMER, "ALTER TABLE former RENAME TO user_credits"),
    ("ALTER TABLE user_credits SET SCHEMA elsewhere", "ALTER TABLE elsewhere.user_credits SET SCHEMA public"),
    ("ALTER TABLE user_credits RENAME status TO state", "ALTER TABLE user_credits RENAME state TO status"),
    ("ALTER TABLE user_credits RENAME user_id TO owner", "ALTER TABLE user_credits RENAME owner TO user_id"),
)


class TableHistory:
    """The table, and whatever happens to it; each step is one transaction, or a dump and its restore."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database = database
        self.dice = random.Random(seed)
        self.log: list[str] = []
        self._away: str | None = None
        self._numbers = 0
        self._dumped: str | None = None
        kind = self.dice.choice(list(TABLES))
        self._do(f"CREATE SCHEMA elsewhere; {TABLES[kind].format(columns=DEFINED)}")
        for number in range(PEOPLE):
            self.write(number)

    @property
    def away(self) -> bool:
        """Whether there is no such table now, or a column of it has another name."""
        return self._away is not None

    def step(self) -> None:
        """Do something to the table."""
        if self._away is not None and self.dice.random() < 0.5:
            self.come_back()
            return
        draw = self.dice.random()
        if draw < 0.08 and self._away is None:
            there, back = self.dice.choice(AWAY)
            if self._do(there):
                self._away = back
        elif draw < 0.16:
            self._restore()
        else:
            for _ in range(DRAWS):
                self._numbers += 1
                if self._do(self.dice.choice(STATEMENTS).replace("{n}", str(self._numbers))):
                    break

    def come_back(self) -> None:
        """Give the table and its columns the names they are known by."""
        if self._away is not None:
            assert self._do(self._away)
            self._away = None

    def write(self, number: int | None = None) -> None:
        """Write as the application does. Raises AssertionError where that fails for a reason of ours."""
        name = user(self.dice.randrange(PEOPLE) if number is None else number)
        other, draw = user(self.dice.randrange(PEOPLE)), self.dice.random()
        if draw < 0.5 or number is not None:
            statement = f"INSERT INTO user_credits (user_id, credits, status) VALUES ('{name}', 10, 'active')"
        elif draw < 0.8:
            statement = f"UPDATE user_credits SET credits = credits - 1 WHERE user_id::text = '{name}'"
        elif draw < 0.9:
            kind = "(SELECT user_id FROM user_credits LIMIT 1)" if draw < 0.85 else f"'{other}'"
            statement = f"UPDATE user_credits SET user_id = {kind} WHERE user_id::text = '{name}'"
        else:
            statement = f"DELETE FROM user_credits WHERE user_id::text = '{name}'"
        try:
            self.database.run(statement)
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.CheckViolation) as error:
            if "creditsd" in str(error):
                raise AssertionError(self.log) from error

    def truth(self) -> dict[str, int] | None:
        """What everyone has, by the table alone; None where there is none that could be read."""
        try:
            found = self.database.run(
                "SELECT user_id::text, sum(credits) FROM public.user_credits WHERE status = 'active' GROUP BY 1"
            )
        except psycopg.Error:
            return None
        return {str(name): int(amount) for name, amount in found if amount}

    async def under_writes(self, doing: Callable[[], object], writes: int) -> None:
        """Do something while the application writes."""
        done = asyncio.create_task(asyncio.to_thread(doing))
        for _ in range(writes):
            await asyncio.to_thread(self.write)
        await done

    def _restore(self) -> None:
        """Drop the table or everything, and restore it from a dump of now, or everything from an earlier one."""
        whole = self.dice.random() < 0.5
        bare = self.dice.random() < 0.5
        earlier = whole and self._dumped is not None and self.dice.random() < 0.6
        spend = SPEND if self.dice.random() < 0.5 else ""
        try:
            dumped = self.database.pg_dump() if whole else self.database.pg_dump("-t", "public.*")
            if bare and not whole:
                dumped = re.sub(
                    r"CREATE TRIGGER creditsd_\w+ [^;]*;|ALTER TABLE [^;]* TRIGGER creditsd_\w+;", "", dumped
                )
            if earlier:
                dumped = self._dumped or ""
            elif whole and self._away is None:
                self._dumped = dumped
            schemas = "public, elsewhere, creditsd" if whole else "public"
            dropped = f"{GIVE_WAY}; DROP SCHEMA {schemas} CASCADE; CREATE SCHEMA public;"
            self.database.psql(f"BEGIN; {dropped} {dumped}; SET search_path = public; {spend}; COMMIT;")
            self._away = None if earlier else self._away
            self.log.append(f"restored, whole: {whole}, earlier: {earlier}, no triggers: {bare}, then: {spend}")
        except ServerError as error:
            self.log.append(f"not restored: {str(error)[:200]}")

    def _do(self, statements: str) -> bool:
        try:
            self.database.run(f"BEGIN; {GIVE_WAY}; {statements}; COMMIT")
        except psycopg.Error as error:
            self.log.append(f"refused ({type(error).__name__}): {statements}")
            return False
        self.log.append(statements)
        return True
