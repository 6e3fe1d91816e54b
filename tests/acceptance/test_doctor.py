"""What doctor and healthcheck find, on real servers: each fault with its own line and what mends it."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
from psycopg.conninfo import make_conninfo

from tests.acceptance.command import Done, creditsd, environment, install, running
from tests.acceptance.conftest import ONE, Operator
from tests.conftest import Database
from tests.pgbouncer import PgBouncer
from tests.servers import REFERENCE_TABLE, Postgres, Valkey, free_port

FOUND, UNAVAILABLE, CONFIG = 1, 69, 78


def findings(done: Done, about: str, level: str | None = None) -> list[dict[str, str]]:
    """What it found of one thing."""
    assert done.err == "", done.err
    return [each for each in done.json["findings"] if each["about"] == about and level in (None, each["level"])]


def finding(done: Done, about: str, level: str | None = None) -> dict[str, str]:
    """The one thing that it found of something."""
    (found,) = findings(done, about, level)
    return found


async def test_where_all_is_well_each_thing_says_so(installed: Operator, tmp_path: Path) -> None:
    async with running(tmp_path, env=installed.env) as daemon:
        await daemon.until_ready()
        done = await installed.creditsd("doctor", CREDITSD_HTTP__LISTEN=f"127.0.0.1:{daemon.port}")
    assert (done.code, done.json["well"]) == (0, True)
    assert [each["about"] for each in done.json["findings"] if each["level"] == "good"] == [
        "settings",
        "http",
        "sink redis",
        "server",
        "clock",
        "connections",
        "doorbell",
        "table",
        "rights",
        "leader",
        "changes",
    ]
    assert finding(done, "http")["said"] == "leading"
    assert re.fullmatch(r"a ring is heard after \d+\.\d ms", finding(done, "doorbell")["said"])


async def test_before_anything_is_installed_it_says_so_and_looks_at_the_rest(operator: Operator) -> None:
    done = await operator.creditsd("doctor")
    assert (done.code, done.json["well"]) == (FOUND, False)
    assert finding(done, "table") == {
        "about": "table",
        "level": "problem",
        "said": "creditsd is not installed in this database",
        "hint": "run `creditsd install`",
    }
    assert finding(done, "server")["level"] == finding(done, "doorbell")["level"] == "good"
    assert finding(done, "sinks")["hint"] == "set CREDITSD_SINKS"
    assert [each["about"] for each in done.json["findings"] if each["level"] == "problem"] == ["table"]


async def test_what_hides_changes_is_named_with_what_mends_it(installed: Operator) -> None:
    installed.database.run("ALTER TABLE user_credits DISABLE TRIGGER creditsd_update")
    done = await installed.creditsd("doctor")
    assert done.code == FOUND
    assert finding(done, "table", "problem")["said"] == "triggers are disabled on public.user_credits"
    assert "creditsd install" in finding(done, "table", "problem")["hint"]
    assert finding(done, "leader") == {
        "about": "leader",
        "level": "note",
        "said": "nobody leads: totals stand still",
        "hint": "start `creditsd run`",
    }


async def test_a_right_that_is_missing_is_named_with_the_command_that_grants_it(installed: Operator) -> None:
    database = installed.database
    role = f"doctored_{database.name}"
    database.run(f"CREATE ROLE {role} LOGIN")
    dsn = make_conninfo(database.dsn, user=role)
    try:
        assert (await installed.creditsd("install", "--role", role)).code == 0
        assert finding(await installed.creditsd("doctor", CREDITSD_DSN=dsn), "rights")["level"] == "good"
        database.run(f"REVOKE INSERT ON creditsd.repairs FROM {role}")
        done = await installed.creditsd("doctor", CREDITSD_DSN=dsn)
        assert done.code == FOUND
        assert finding(done, "rights")["said"] == f"{role} lacks INSERT on creditsd.repairs"
        assert finding(done, "rights")["hint"] == f"run `creditsd install --role {role}` as the table's owner"
        database.run(f"ALTER ROLE {role} CONNECTION LIMIT 5")
        found = finding(await installed.creditsd("doctor", CREDITSD_DSN=dsn), "connections")
        assert found["said"] == "a daemon opens 13 at most, and 5 are free"
        assert (
            found["hint"] == f"raise CONNECTION LIMIT of the role {role}, or have others open fewer: 8 more are needed"
        )
    finally:
        database.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_rows_that_surprise_are_named(installed: Operator) -> None:
    done = await installed.creditsd("doctor")
    assert finding(done, "rows") == {
        "about": "rows",
        "level": "note",
        "said": "an expired one-time row holds 55 credits, which count no more",
        "hint": f"creditsd explain {ONE}",
    }
    installed.database.run(
        "INSERT INTO creditsd.problems (user_id, problem, reason) VALUES (%s, 'not summed', 'x')", [ONE]
    )
    done = await installed.creditsd("doctor")
    assert finding(done, "rows", "problem")["said"] == f"set aside, because not summed: 1 user, e.g. {ONE}"


async def test_rows_that_cannot_be_summed_up_hide_nothing_else(installed: Operator) -> None:
    installed.database.run("ALTER TABLE user_credits ALTER COLUMN credits TYPE numeric")
    assert (await installed.creditsd("install")).code == 0
    most = "repeat('9', 131072)::numeric"
    installed.database.run(
        "INSERT INTO user_credits (user_id, credits, status, plan_type) "
        f"SELECT %s, {most}, 'expired', 'one_time' FROM generate_series(1, 11)",
        [ONE],
    )
    done = await installed.creditsd("doctor")
    assert "cannot be summed up" in finding(done, "rows", "problem")["said"]
    assert finding(done, "rights")["level"] == "good"


async def test_a_publication_of_all_tables_is_told_and_one_of_the_balances_is_not(installed: Operator) -> None:
    installed.database.run("CREATE PUBLICATION wanted FOR TABLE creditsd.balances")
    assert findings(await installed.creditsd("doctor"), "publications") == []
    installed.database.run("CREATE PUBLICATION everything FOR ALL TABLES")
    (found,) = findings(await installed.creditsd("doctor"), "publications")
    assert re.fullmatch(
        r"everything publishes \d+ tables of creditsd that are of no use to a subscriber", found["said"]
    )


async def test_sinks_that_cannot_be_reached_or_made_and_secrets_that_can_be_guessed(installed: Operator) -> None:
    sinks = [
        {"name": "away", "url": f"redis://127.0.0.1:{free_port()}/0"},
        {"name": "wrong", "url": "rediss+clutser://localhost"},
        {"name": "billing", "url": "webhook+https://example.com/", "secret": "whsec_c2hvcnQ="},
    ]
    done = await installed.creditsd(
        "doctor",
        CREDITSD_SINKS=orjson.dumps(sinks).decode(),
        CREDITSD_HTTP__API_KEYS="short",
        CREDITSD_LOG__LEVEL="error",
    )
    assert done.code == CONFIG
    assert "Connection" in finding(done, "sink away")["said"] or "refused" in finding(done, "sink away")["said"]
    assert "use redis, redis+cluster or redis+sentinel" in finding(done, "sink wrong")["said"]
    untried, doubt = findings(done, "sink billing")
    assert (untried["level"], untried["hint"]) == ("note", "creditsd sinks test billing")
    assert "short enough to be guessed" in doubt["said"]
    assert finding(done, "secrets")["said"] == "http.api_keys is short enough to be guessed"
    assert "c2hvcnQ" not in done.out


async def test_what_the_daemon_knows_of_a_sink_is_told_with_the_command_that_helps(installed: Operator) -> None:
    installed.database.run("INSERT INTO creditsd.sinks (name, paused_at) VALUES ('redis', now())")
    found = finding(await installed.creditsd("doctor"), "sink redis", "problem")
    assert found["hint"] == "creditsd sinks resume redis"


async def test_without_a_database_it_ends_with_what_it_could_look_at(valkey: Valkey) -> None:
    dsn = f"postgresql://app:geheim@127.0.0.1:{free_port()}/app"
    done = await creditsd("doctor", env=environment(CREDITSD_DSN=dsn, CREDITSD_SINKS=valkey.url))
    assert done.code == UNAVAILABLE
    assert "is PostgreSQL running" in finding(done, "server")["said"]
    assert finding(done, "sink redis")["level"] == "good"
    assert "geheim" not in done.out


async def test_a_standby_takes_no_writes(own_postgres: Callable[..., Postgres]) -> None:
    primary = await asyncio.to_thread(own_postgres)
    primary.psql(REFERENCE_TABLE)
    with primary.standby() as standby:
        done = await creditsd("doctor", env=environment(CREDITSD_DSN=standby.dsn()))
        assert (done.code, finding(done, "server", "problem")["said"]) == (
            CONFIG,
            "it is a standby, where nothing can be stored",
        )


async def test_through_a_pooler_alone_no_daemon_could_listen(
    reference_table: Database, pgbouncer: Callable[..., PgBouncer]
) -> None:
    install(reference_table.dsn)
    pooler = pgbouncer(reference_table)
    alone = await creditsd("doctor", env=environment(CREDITSD_DSN=pooler.dsn))
    assert alone.code == CONFIG
    assert finding(alone, "pooler")["hint"] == "set listen_dsn (CREDITSD_LISTEN_DSN) to a direct connection"
    assert "leads through a transaction pooler" in finding(alone, "doorbell")["said"]
    beside = await creditsd("doctor", env=environment(CREDITSD_DSN=pooler.dsn, CREDITSD_LISTEN_DSN=reference_table.dsn))
    assert (beside.code, finding(beside, "doorbell")["level"]) == (0, "good")
    assert [left for each in pooler.look() for left in (each.locks, each.channels, each.statements) if left] == []


async def test_a_health_check_says_what_readyz_would(installed: Operator, tmp_path: Path) -> None:
    there = {"CREDITSD_HTTP__LISTEN": f"0.0.0.0:{free_port()}"}
    nobody = await installed.creditsd("healthcheck", **there)
    assert (nobody.code, nobody.out) == (UNAVAILABLE, "")
    assert f"no daemon of this machine answers at {there['CREDITSD_HTTP__LISTEN']}" in nobody.err
    async with running(tmp_path, env=installed.env) as daemon:
        await daemon.until_ready()
        there = {"CREDITSD_HTTP__LISTEN": f"0.0.0.0:{daemon.port}"}
        assert (await installed.creditsd("healthcheck", **there)).err == "leading\n"
        installed.database.run("ALTER TABLE user_credits DISABLE TRIGGER creditsd_update")
        await daemon.until("/readyz", lambda answer: answer[0] == 503, seconds=90)
        hurt = await installed.creditsd("healthcheck", **there)
        assert (hurt.code, hurt.err.count("\n")) == (UNAVAILABLE, 1)
        assert "leading: triggers are disabled on public.user_credits: run `creditsd install`" in hurt.err
        assert (await installed.creditsd("healthcheck", "--live", **there)).code == 0


async def test_a_health_check_asks_the_database_where_http_is_off(installed: Operator, tmp_path: Path) -> None:
    unknown = await installed.creditsd("healthcheck", "--live", CREDITSD_DSN="host=127.0.0.1 port=1")
    assert (unknown.code, "HTTP is off" in unknown.err) == (0, True)
    nobody = await installed.creditsd("healthcheck")
    assert (nobody.code, "Nobody leads" in nobody.err) == (UNAVAILABLE, True)
    async with running(tmp_path, env=installed.env) as daemon:
        await daemon.until_ready()
        led = await installed.creditsd("healthcheck")
        assert (led.code, led.err) == (0, "a daemon leads\n")


async def test_a_health_check_is_not_taken_in_by_something_else_that_answers(installed: Operator) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        thread = threading.Thread(target=other.handle_request)
        thread.start()
        done = await installed.creditsd("healthcheck", CREDITSD_HTTP__LISTEN=f"127.0.0.1:{other.server_port}")
        thread.join()
    assert (done.code, "what answers there is no creditsd" in done.err) == (UNAVAILABLE, True)
