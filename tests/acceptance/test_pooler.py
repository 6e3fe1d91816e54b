"""Through PgBouncer: sessions are the application's as well, so nothing is ever set or locked in one."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from creditsd.domain.errors import ConfigError
from creditsd.postgres import connections
from tests.acceptance.application import Application, application
from tests.acceptance.command import COMMAND, Done, Running, creditsd, environment, install, running
from tests.acceptance.conftest import ONE, ROWS, TWO
from tests.conftest import Database, eventually
from tests.faults.truth import held
from tests.pgbouncer import Lent, PgBouncer
from tests.servers import Valkey

REFUSED = "leads through a transaction pooler"
CONFIG = 78

ANY_SESSION: tuple[tuple[str, ...], ...] = (
    ("status", "--json"),
    ("get", ONE),
    ("explain", ONE, "--json"),
    ("verify",),
    ("history", ONE),
    ("deliveries", "list"),
    ("deliveries", "show", "redis", ONE),
    ("deliveries", "drop", "redis", ONE),
    ("deliveries", "retry", "redis", TWO),
    ("deliveries", "retry", "redis", "--all"),
    ("deliveries", "drop", "redis", "--all"),
    ("sinks", "list"),
    ("sinks", "pause", "redis"),
    ("sinks", "resume", "redis"),
    ("sinks", "enable", "redis"),
    ("sinks", "replay", "redis", ONE),
    ("sinks", "replay", "redis"),
    ("sinks", "remove", "former"),
    ("sinks", "test", "redis"),
    ("install", "--print"),
)
OWN_SESSION: tuple[tuple[str, ...], ...] = (
    ("install",),
    ("backfill",),
    ("bench", "--seconds", "1", "--clients", "1"),
    ("forget", ONE),
    ("run",),
    ("uninstall",),
)


@dataclass(frozen=True, slots=True)
class Pooled:
    """A database with creditsd installed, and the environment of somebody whose `dsn` leads through a pooler."""

    database: Database
    pooler: PgBouncer
    env: dict[str, str]

    @property
    def both_ways(self) -> dict[str, str]:
        """The environment with a direct connection named too."""
        return self.env | {"CREDITSD_LISTEN_DSN": self.database.dsn}

    async def creditsd(self, *args: str) -> Done:
        """Run a command that knows no way past the pooler."""
        return await creditsd(*args, env=self.env)


@pytest.fixture
def pooled(reference_table18: Database, pgbouncer: Callable[..., PgBouncer], valkey: Valkey) -> Iterator[Pooled]:
    """That, of the newest version; whatever is done, the pooler's sessions are afterwards what they were before."""
    reference_table18.run(ROWS)
    install(reference_table18.dsn)
    pooler = pgbouncer(reference_table18)
    before = pooler.look()
    yield Pooled(reference_table18, pooler, environment(CREDITSD_DSN=pooler.dsn, CREDITSD_SINKS=valkey.url))
    after = pooler.look()
    assert left(after) == []
    assert {each.pid for each in after} == {each.pid for each in before}  # none was closed, with whatever was in it
    assert [sorted(set(each.settings.items()) ^ set(before[0].settings.items())) for each in after] == [[]] * len(after)


async def refused(pooled: Pooled, daemon: Running) -> None:
    """Let there be a dead letter to each of both users, and a sink that is not configured any more."""
    await daemon.until("/livez", lambda answer: answer[1]["sinks"]["redis"] == "current")
    pooled.database.run(
        "INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, last_error) "
        f"VALUES ('redis', '{ONE}', 1, 9, 'not today'), ('redis', '{TWO}', 1, 9, 'not today')"
    )
    pooled.database.run("INSERT INTO creditsd.sinks (name) VALUES ('former')")


def left(sessions: list[Lent]) -> list[tuple[object, ...]]:
    """What was left in any of them: locks, channels and statements."""
    return [left for each in sessions if any(left := (each.locks, each.channels, each.statements))]


def unharmed(app: Application) -> bool:
    """Whether the application worked, and found the same in each of its transactions."""
    return app.transactions > 0 and len(app.seen) == 1


async def test_every_command_and_the_daemon_work_with_a_direct_connection_beside_the_pooler(
    pooled: Pooled, valkey: Valkey, tmp_path: Path
) -> None:
    env = pooled.both_ways
    with application(pooled.pooler) as app:
        assert (await creditsd("backfill", env=env)).code == 0
        async with running(tmp_path, env=env) as daemon:
            await daemon.until_ready()
            pooled.database.run("UPDATE public.user_credits SET credits = 30 WHERE credits = 20")
            await eventually(lambda: held(valkey), lambda told: told.get(ONE, {}).get("credits", 0) >= 130)
            assert "done by the daemon" in (await creditsd("backfill", env=env)).err
            await refused(pooled, daemon)
            for words in ("status", "verify", "sinks replay redis", "sinks test redis"):
                done = await creditsd(*words.split(), env=env)
                assert done.code == 0, (words, done)
            assert await daemon.end() == 0
        for command in [each for each in OWN_SESSION if each != ("run",)]:
            done = await creditsd(*command, env=env)
            assert done.code == 0, (command, done)
    assert unharmed(app)


async def test_what_needs_a_session_of_its_own_is_refused_through_a_pooler_alone(pooled: Pooled) -> None:
    with application(pooled.pooler) as app:
        for command in OWN_SESSION:
            done = await pooled.creditsd(*command)
            assert (done.code, done.out, done.err.count("\n")) == (CONFIG, "", 1), (command, done)
            assert REFUSED in done.err
            assert "CREDITSD_LISTEN_DSN" in done.err
        pooled.database.run("UPDATE creditsd.balances SET credits = 1000")
        assert (await pooled.creditsd("verify")).code == 1
    assert unharmed(app)
    assert pooled.database.run("SELECT count(*) FROM pg_namespace WHERE nspname = 'creditsd'") == [(1,)]


async def test_what_needs_none_works_through_a_pooler_alone(pooled: Pooled, tmp_path: Path) -> None:
    async with running(tmp_path, env=pooled.both_ways) as daemon:
        with application(pooled.pooler) as app:
            await daemon.until_ready()
            await refused(pooled, daemon)
            for command in (*ANY_SESSION, ("backfill",), ("backfill", "--republish")):
                done = await pooled.creditsd(*command)
                assert done.code == 0, (command, done)
        assert unharmed(app)
        pooled.database.run("UPDATE creditsd.balances SET credits = credits + 1000")
        done = await pooled.creditsd("verify", "--repair")
        assert done.code == 0, done
        assert await daemon.end() == 0


async def test_readers_the_page_and_watch_go_through_a_pooler(
    reference_table18: Database, pgbouncer: Callable[..., PgBouncer], tmp_path: Path
) -> None:
    reference_table18.run(ROWS)
    install(reference_table18.dsn)
    pooler, key = pgbouncer(reference_table18), "a key that is long enough to be one of ours"
    env = environment(CREDITSD_DSN=pooler.dsn, CREDITSD_LISTEN_DSN=reference_table18.dsn)
    keys = {"CREDITSD_HTTP__API_KEYS": json.dumps([key]), "CREDITSD_HTTP__OPERATOR_KEYS": json.dumps([key])}

    async def asked(daemon: Running, path: str) -> Any:
        def ask() -> Any:
            request = Request(f"http://127.0.0.1:{daemon.port}{path}", headers={"Authorization": f"Bearer {key}"})
            with urlopen(request, timeout=5) as response:
                return json.load(response)

        return await asyncio.to_thread(ask)

    async with running(tmp_path, env=env | keys) as daemon:
        await daemon.until_ready()
        with application(pooler) as app:
            assert (await asked(daemon, f"/v1/users/{ONE}/credits"))["data"]["credits"] >= 120
            state = (await asked(daemon, "/v1/operator/state"))["data"]
            assert (state["problem"], state["line"]["users"]) == (None, 2)
            watching = await asyncio.create_subprocess_exec(
                COMMAND, "watch", ONE, env=environment(CREDITSD_DSN=pooler.dsn), stdout=asyncio.subprocess.PIPE
            )
            assert watching.stdout is not None
            try:
                async with asyncio.timeout(30):
                    assert json.loads(await watching.stdout.readline())["user_id"] == ONE
            finally:
                watching.terminate()
                await watching.wait()
        assert unharmed(app)
        assert await daemon.end() == 0
    assert left(pooler.look()) == []


async def test_a_repair_without_a_daemon_needs_a_session_of_its_own(pooled: Pooled) -> None:
    assert (await creditsd("backfill", env=pooled.both_ways)).code == 0
    pooled.database.run("UPDATE creditsd.balances SET credits = credits + 1000")
    done = await pooled.creditsd("verify", "--repair")
    assert (done.code, REFUSED in done.err) == (CONFIG, True), done
    assert (await creditsd("verify", "--repair", env=pooled.both_ways)).code == 0
    assert (await pooled.creditsd("verify")).code == 0


async def test_two_daemons_elect_exactly_one(pooled: Pooled, tmp_path: Path) -> None:
    leading = (
        "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) "
        "WHERE l.locktype = 'advisory' AND l.objid = 1249075342 AND l.granted AND a.datname = current_database()"
    )
    with application(pooled.pooler) as app:
        async with AsyncExitStack() as stack:
            env = pooled.both_ways
            daemons = [await stack.enter_async_context(running(tmp_path, env=env)) for _ in range(2)]
            for daemon in daemons:
                await daemon.until_ready()
            states = sorted([(await daemon.ask("/livez"))[1]["state"] for daemon in daemons])
            assert states == ["leading", "standby"]
            assert pooled.database.run(leading) == [(1,)]
            (leader,) = [each for each in daemons if (await each.ask("/livez"))[1]["state"] == "leading"]
            (other,) = [each for each in daemons if each is not leader]
            assert await leader.end() == 0
            await other.until_state("leading")
            assert pooled.database.run(leading) == [(1,)]
            assert await other.end() == 0
    assert unharmed(app)


async def test_session_mode_is_as_good_as_a_direct_connection(
    reference_table18: Database, pgbouncer: Callable[..., PgBouncer], valkey: Valkey, tmp_path: Path
) -> None:
    reference_table18.run(ROWS)
    pooler = pgbouncer(reference_table18, pool_mode="session", pool_size=20)
    env = environment(CREDITSD_DSN=pooler.dsn, CREDITSD_SINKS=valkey.url)
    for command in (("install",), ("backfill",), ("verify", "--repair"), ("status",)):
        done = await creditsd(*command, env=env)
        assert done.code == 0, (command, done)
    async with running(tmp_path, env=env) as daemon:
        await daemon.until("/livez", lambda answer: answer[1].get("doorbell") == "asleep")
        reference_table18.run("UPDATE public.user_credits SET credits = 30 WHERE credits = 20")
        await eventually(lambda: held(valkey), lambda told: told.get(ONE, {}).get("credits") == 130)
        assert await daemon.end() == 0
    assert left(pooler.look()) == []


async def test_a_pooler_that_lends_for_a_statement_is_refused(
    reference_table18: Database, pgbouncer: Callable[..., PgBouncer]
) -> None:
    install(reference_table18.dsn)
    env = environment(CREDITSD_DSN=pgbouncer(reference_table18, pool_mode="statement").dsn)
    for command, words in ((("status",), "pool_mode"), (("run",), REFUSED), (("install",), REFUSED)):
        done = await creditsd(*command, env=env)
        assert (done.code, done.err.count("\n"), words in done.err) == (CONFIG, 1, True), (command, done)


POISON = (
    "SET search_path = public",
    "SET statement_timeout = '300ms'",
    "SET lock_timeout = '1ms'",
    "SET default_transaction_read_only = on",
    "SET default_transaction_isolation = 'serializable'",
    "SET DateStyle = 'German'",
    "SET TimeZone = 'Asia/Kathmandu'",
    "SET IntervalStyle = 'sql_standard'",
    "SET extra_float_digits = -15",
    "SET row_security = off",
    "SET quote_all_identifiers = on",
    "SET array_nulls = off",
    "SET role = pg_read_all_stats",
)


async def test_whatever_the_application_left_set_in_a_session_the_answers_are_the_same(
    pooled: Pooled, valkey: Valkey, tmp_path: Path
) -> None:
    days = {"CREDITSD_HISTORY__DAYS": "1"}

    async def answers() -> list[tuple[int, str]]:
        asked = (("get", ONE), ("explain", ONE, "--json"), ("history", ONE), ("verify",))
        done = [await creditsd(*each, env=pooled.env | days) for each in asked]
        return [(each.code, re.sub(r'"updated_at":"[^"]*"', "", each.out)) for each in done]

    async with running(tmp_path, env=pooled.both_ways | days) as daemon:
        await daemon.until_ready()
        await eventually(lambda: held(valkey), lambda told: ONE in told)
        before = await answers()
        pooled.pooler.left(*POISON)
        assert await answers() == before
        for command in (("sinks", "pause", "redis"), ("sinks", "resume", "redis"), ("backfill", "--republish")):
            assert (await pooled.creditsd(*command)).code == 0
        pooled.database.run("UPDATE public.user_credits SET credits = 30 WHERE credits = 20")
        await eventually(lambda: held(valkey), lambda told: told.get(ONE, {}).get("credits") == 130)
        assert await daemon.end() == 0
    pooled.pooler.left("RESET role", "RESET ALL")


async def test_nothing_that_was_left_set_in_a_session_holds_in_our_transactions(pooled: Pooled) -> None:
    names = [statement.split()[1] for statement in POISON]
    shown = "SELECT array_agg(current_setting(name)) FROM unnest(%s::text[]) AS name"
    pooled.pooler.left(*POISON)
    async with connections.connected(pooled.pooler.dsn, purpose="test") as connection:
        ((found,),) = await connections.rows(connection, shown, [names])
        assert (
            dict(zip(names, found, strict=True)).items()
            >= {
                "search_path": '"pg_catalog", "pg_temp"',  # quote_all_identifiers was still on
                "statement_timeout": "0",
                "lock_timeout": "0",
                "DateStyle": "ISO, MDY",
                "TimeZone": "UTC",
                "row_security": "on",
                "role": "none",
            }.items()
        )
        await connections.rows(connection, "SELECT pg_sleep(0.5)")  # longer than the statement_timeout
        async with connection.transaction():
            assert await connections.rows(connection, shown, [names]) == [(found,)]
        said = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
        assert await connections.rows(connection, said) == [("read committed", "off")]
    pooled.pooler.left("RESET role", "RESET ALL")


@pytest.mark.parametrize("round_robin", [0, 1], ids=["last used first", "in turn"])
@pytest.mark.parametrize("pool_size", [2, 8])
async def test_a_busy_transaction_pooler_is_told_from_one_that_gives_each_client_a_session(
    reference_table18: Database, pgbouncer: Callable[..., PgBouncer], pool_size: int, round_robin: int
) -> None:
    reference_table18.run(ROWS)
    pooler = pgbouncer(reference_table18, pool_size=pool_size, server_round_robin=round_robin)
    with application(pooler, rest_seconds=0):
        for _ in range(5):
            with pytest.raises(ConfigError, match=REFUSED):
                await connections.connect(pooler.dsn, purpose="test", direct=True)
    assert left(pooler.look()) == []
    quiet = pgbouncer(reference_table18, pool_size=pool_size, server_round_robin=round_robin)
    with pytest.raises(ConfigError, match=REFUSED):
        await connections.connect(quiet.dsn, purpose="test", direct=True)
    own = pgbouncer(reference_table18, pool_mode="session", pool_size=pool_size + 10)
    with application(own):
        async with connections.connected(own.dsn, purpose="test", direct=True) as connection:
            assert not connections.is_shared(connection)


async def test_a_direct_connection_is_known_for_certain_and_keeps_its_settings(reference_table: Database) -> None:
    async with connections.connected(reference_table.dsn, purpose="test") as connection:
        assert not connections.is_shared(connection)
    async with connections.pool(reference_table.dsn, purpose="test", max_size=1) as some:
        assert not await shared_by(some)


async def test_a_pool_finds_out_by_itself_that_its_sessions_are_lent(pooled: Pooled) -> None:
    async with connections.pool(pooled.pooler.dsn, purpose="test", max_size=1) as some:
        assert await shared_by(some)


async def shared_by(some: connections.Pool) -> bool:
    """Whether a pool's connection is one that may be somebody else's next."""
    async with connections.borrowed(some) as connection:
        return connections.is_shared(connection)
