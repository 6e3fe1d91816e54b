"""The short way of a drain against the general one: from the same state, by random histories, both do the same."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from creditsd.capture.change_reader import FEW
from creditsd.postgres.session import SETTINGS
from tests.conftest import Database
from tests.integration.line import Line, installed, user
from tests.integration.shapes import CASES, REFERENCE, Installed, matches, put

SEEDS = (1, 2)
STEPS = 150
USERS = 20

# Every word that the rules tell apart, and some that they do not know.
CREDITS = (0, 0, -1, 1, 5, 60, 100, 1000, None)
STATUSES = ("active", "active", "active", "active", "expired", "weird", None)
PLANS = ("subscription", "subscription", "one_time", "other", None)
# Never so near that one way would find it in the future and the other in the past.
ENDS = (
    "NULL",
    "NULL",
    "now() + interval '12 hours'",
    "now() + interval '1 day'",
    "now() + interval '9 days'",
    "now() - interval '1 day'",
    "'infinity'",
    "'10000-01-01'",
)
POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"can_buy": "no_credits", "expire_empty": "off"},
    {"can_buy": "always", "expire_empty": "dry_run"},
    {"low": 50, "recovered": 80},
    {"low": -5, "recovered": 0, "soon": 2.0},
    {"seconds": 3600},
)

PLAIN = """
CREATE TABLE public.user_credits (
    id bigserial PRIMARY KEY, user_id uuid, credits integer, status text, plan_type text, membership text,
    subscription_id text, expires_at timestamptz, created_at timestamptz
)
"""
# Everything that can be asked of a table.
RICH = """
CREATE TABLE public.user_credits (
    id bigserial PRIMARY KEY, user_id text COLLATE "C", credits numeric, status text, plan_type text, membership text,
    subscription_id text, expires_at timestamptz, created_at timestamptz, starts_at timestamptz, deleted boolean
)
"""

# What is stored, but for what tells when: of each user, and whether the row of a plan is expired.
STATE = """
SELECT
    (
        SELECT jsonb_object_agg(
            b.user_id,
            to_jsonb(b) - ARRAY['version', 'updated_at', 'empty_since', 'events', 'recheck_at'] || jsonb_build_object(
                'events', replace(b.events::text, b.version::text, 'now'),
                'empty', b.empty_since IS NOT NULL,
                'recheck_at', CASE WHEN b.empty_since IS NULL THEN b.recheck_at END
            )
        )
        FROM creditsd.balances AS b
    ),
    (SELECT jsonb_object_agg(t.id, t.status) FROM public.user_credits AS t),
    (SELECT count(*) FROM creditsd.problems)
"""
TOTAL = """
to_jsonb(total) - ARRAY['version', 'updated_at', 'empty_since', 'events', 'recheck_at']
    || jsonb_build_object('events', replace((total).events::text, (total).version::text, 'now')),
(total).version
"""
GENERAL = f"""
SELECT page, {TOTAL}
FROM creditsd.drain(
    %(since)s::pg_snapshot, NULL, NULL, 2000, %(can_buy)s, %(expire_empty)s, %(seconds)s::float8,
    %(events)s::jsonb, 0
)
"""
BRIEF = f"""
SELECT jsonb_build_object('snapshot', snapshot, 'changes', changes, 'users', users, 'due_at', due_at), {TOTAL}
FROM creditsd.drain_few(
    %(since)s::pg_snapshot, %(newest)s, %(due)s::timestamptz, %(can_buy)s, %(expire_empty)s, %(seconds)s::float8,
    %(events)s::jsonb
)
"""
# Whoever believes in an earlier end keeps to it, unless the true one was looked for.
DUE_RIGHTLY = """
SELECT %(said)s::timestamptz IN (earliest, LEAST(earliest, %(due)s::timestamptz))
FROM (SELECT coalesce(min(b.recheck_at), 'infinity') AS earliest FROM creditsd.balances AS b) AS stored
"""
# What a caller may believe in of the newest version and of the next end, beside the truth.
NEWEST_OFF = (0, 0, -(10**9), 10**7)
DUE = ("infinity", "infinity", "2001-01-01", "tomorrow", "9999-01-01")

Connection = psycopg.Connection[tuple[Any, ...]]


def policy(dice: random.Random) -> dict[str, Any]:
    """Draw what a drain is told beside its cursor."""
    drawn: Mapping[str, Any] = dice.choice(POLICIES)
    thresholds = {"low_credits": str(drawn.get("low", 0)), "recovered_credits": str(drawn.get("recovered", 0))}
    return {
        "can_buy": drawn.get("can_buy", "no_active_subscription"),
        "expire_empty": drawn.get("expire_empty", "on"),
        "seconds": drawn.get("seconds", 0),
        "events": json.dumps(thresholds | {"expiring_soon_days": drawn.get("soon", 0.0)}),
    }


@dataclass
class Told:
    """What a drain answered: its page, and of each user the total."""

    page: dict[str, Any]
    totals: dict[str, Any]
    versions: list[int]

    @classmethod
    def by(cls, leader: Connection, query: str, parameters: Mapping[str, Any]) -> Told:
        rows = leader.execute(query.encode(), parameters).fetchall()
        totals = {row[1]["user_id"]: row[1] for row in rows if row[2] is not None}
        return cls(rows[-1][0], totals, [row[2] for row in rows if row[2] is not None])


@dataclass
class History:
    """Random transactions of an application, and both ways to drain them."""

    leader: Connection
    writers: list[Connection]
    dice: random.Random
    rich: bool
    since: str = ""
    newest: int = 0
    ways: dict[str, int] = field(default_factory=lambda: {"short": 0, "general": 0})
    stored: int = 0
    holder: Connection | None = None

    def write(self) -> None:
        """Write a transaction of a few rows, or into one that stays open."""
        dice = self.dice
        if self.holder is not None and dice.random() < 0.3:
            self.holder.execute(dice.choice([b"COMMIT", b"ROLLBACK"]))
            self.holder = None
        writer = self.writers[0]
        if self.holder is None and dice.random() < 0.05:
            self.holder = self.writers[1]
            self.holder.execute("BEGIN")
            self._insert(self.holder)  # locks no row that the other writer, or a drain, could want
        with writer.transaction():
            for _ in range(dice.choice((1, 1, 1, 1, 2, 3, 6))):
                dice.choice(
                    (self._insert, self._update, self._update, self._spend, self._spend, self._move, self._delete)
                )(writer)

    def _user(self) -> str:
        return user(self.dice.randrange(USERS))

    def _insert(self, writer: Connection) -> None:
        dice = self.dice
        names = "user_id, credits, status, plan_type, membership, subscription_id, expires_at, created_at"
        values = "%s, %s, %s, %s, %s, %s, " + f"{dice.choice(ENDS)}, now() - interval '{dice.random():.3f} days'"
        if self.rich:
            starts = dice.choice(("NULL", "NULL", "now() - interval '1 day'", "now() + interval '6 hours'"))
            names, values = f"{names}, starts_at, deleted", f"{values}, {starts}, {dice.random() < 0.15}"
        words = (
            dice.choice(STATUSES),
            dice.choice(PLANS),
            dice.choice(("Pro", "Pack", None)),
            dice.choice(("s1", "s2", None)),
        )
        writer.execute(
            f"INSERT INTO user_credits ({names}) VALUES ({values})".encode(),
            [self._user(), dice.choice(CREDITS), *words],
        )

    def _update(self, writer: Connection) -> None:
        values = [self.dice.choice(CREDITS), self.dice.choice(STATUSES), self._user()]
        writer.execute(
            f"UPDATE user_credits SET credits = %s, status = %s, expires_at = {self.dice.choice(ENDS)} "
            "WHERE id = (SELECT max(id) FROM user_credits WHERE user_id = %s)".encode(),
            values,
        )

    def _spend(self, writer: Connection) -> None:
        writer.execute(
            "UPDATE user_credits SET credits = credits - 1 WHERE status = 'active' AND user_id = %s", [self._user()]
        )

    def _move(self, writer: Connection) -> None:
        writer.execute(
            "UPDATE user_credits SET user_id = %s WHERE id = (SELECT max(id) FROM user_credits WHERE user_id = %s)",
            [self._user(), self._user()],
        )

    def _delete(self, writer: Connection) -> None:
        writer.execute(
            "DELETE FROM user_credits WHERE id = (SELECT min(id) FROM user_credits WHERE user_id = %s)", [self._user()]
        )

    def drain(self) -> None:
        """Drain by the general way and take it back, then by the short one; fail where they differ."""
        parameters = policy(self.dice) | {
            "since": self.since,
            "newest": self.newest + self.dice.choice(NEWEST_OFF),
            "due": self.dice.choice(DUE),
        }
        before = self._state()
        with self.leader.transaction(force_rollback=True):
            general = Told.by(self.leader, GENERAL, parameters)
            wanted = self._state()
        short = Told.by(self.leader, BRIEF, parameters)
        refused = short.page["snapshot"] is None
        assert refused == (general.page["changes"] > FEW)
        if refused:
            assert not short.totals
            assert self._state() == before
            short = Told.by(self.leader, GENERAL, parameters)
        else:
            same = ("changes", "users")
            assert {key: short.page[key] for key in same} == {key: general.page[key] for key in same}
            due = {"said": short.page["due_at"], "due": parameters["due"]}
            assert self.leader.execute(DUE_RIGHTLY.encode(), due).fetchall() == [(True,)]
        assert short.totals == general.totals
        assert self._state() == wanted
        assert short.versions == sorted(set(short.versions))
        assert all(version > self.newest for version in short.versions)
        self.newest = max([self.newest, *short.versions])
        self.since = short.page["snapshot"]
        self.ways["general" if refused else "short"] += 1
        self.stored += len(short.versions)

    def _state(self) -> tuple[Any, ...]:
        return self.leader.execute(STATE.encode()).fetchall()[0]


@pytest.mark.parametrize("table", ["plain", "rich"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_both_ways_store_and_tell_the_same_of_any_history(database: Database, table: str, seed: int) -> None:
    database.run(RICH if table == "rich" else PLAIN)
    database.run("CREATE INDEX ON user_credits (user_id)")
    settings = await installed(database, source={"where": "deleted IS NOT TRUE"} if table == "rich" else {})
    async with Line.settled(settings) as line:
        since = line.change_reader.snapshot
    with (
        psycopg.connect(database.dsn, autocommit=True) as leader,
        psycopg.connect(database.dsn, autocommit=True) as one,
        psycopg.connect(database.dsn, autocommit=True) as other,
    ):
        leader.execute(SETTINGS)
        history = History(leader, [one, other], random.Random(seed), rich=table == "rich", since=since)
        for _ in range(STEPS):
            history.write()
            history.drain()
    assert history.ways["short"] > 3 * history.ways["general"] > 0, history.ways
    assert history.stored > STEPS / 2


@pytest.mark.parametrize("way", ["short", "general"])
async def test_every_case_of_the_contract_holds_for_whoever_was_plain_before(reference: Installed, way: str) -> None:
    users = {REFERENCE.new_user(): case for case in CASES if case["rows"]}
    async with Line.settled(reference.settings) as line, reference.database.connect() as application:
        for name in users:
            await put(application, name, {"credits": 1000, "plan_type": "subscription"})
        await line.settle()
        for name, case in users.items():
            async with application.transaction():
                await application.execute("DELETE FROM user_credits WHERE user_id = %s", [name])
                for row in case["rows"]:
                    await put(application, name, row)
                (began,) = (await (await application.execute("SELECT now()")).fetchone()) or ()
            line.change_reader._until_few = 0 if way == "short" else 10**9
            with capture_logs() as logs:
                told = {total.user_id: total for total in await line.settle()}
            assert "balances.attempt_failed" not in [event["event"] for event in logs]
            # Who was subscribed once has been for good.
            matches(told[name], case["expect"] | {"hasEverHadSubscription": True}, began)
