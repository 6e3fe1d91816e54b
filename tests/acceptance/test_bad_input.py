"""Whatever is wrong: one clear line on standard error, the exit code that says if to try again, nothing half done."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from psycopg.conninfo import make_conninfo

from tests.acceptance.command import creditsd, environment, running
from tests.acceptance.conftest import ONE, Fails, Operator
from tests.conftest import eventually
from tests.servers import REFERENCE_TABLE, Postgres, free_port

CONFIG, UNAVAILABLE, DATA = 78, 69, 65

LEADER = "creditsd leader"
OF_LEADER = f"datname = current_database() AND application_name = '{LEADER}'"


async def test_a_table_that_is_not_as_the_settings_say(fails: Fails) -> None:
    wrong = [
        ("TABLE", "public.user_credit", "did you mean public.user_credits?"),
        ("TABLE", "pg_catalog.pg_user", "is a view"),
        ("COLUMNS__CREDITS", "credit", "did you mean 'credits'?"),
        ("COLUMNS__MEMBERSHIP", "plan", "Set source.columns.membership"),
        ("COLUMNS__CREDITS", "membership", "is text: creditsd needs integer, bigint or numeric"),
    ]
    lines = await asyncio.gather(
        *(fails(CONFIG, "install", **{f"CREDITSD_SOURCE__{key}": value}) for key, value, _ in wrong)
    )
    for line, (_, _, said) in zip(lines, wrong, strict=True):
        assert said in line


async def test_a_dsn_that_leads_nowhere_and_never_shows_its_password(fails: Fails) -> None:
    wrong = [
        ("nonsense", CONFIG, "CREDITSD_DSN"),
        ("postgresql://app:gehe:im@localhost:port:/x", CONFIG, "CREDITSD_DSN"),
        ("postgresql://app:geheim@127.0.0.1:1/app", UNAVAILABLE, "Connection refused"),
        ("postgresql://app:geheim@nowhere.invalid/app", UNAVAILABLE, "nowhere.invalid"),
    ]
    lines = await asyncio.gather(*(fails(code, "install", CREDITSD_DSN=dsn) for dsn, code, _ in wrong))
    for line, (_, _, said) in zip(lines, wrong, strict=True):
        assert said in line
        assert "gehe" not in line


async def test_without_a_dsn_it_says_what_was_taken_and_how_a_command_gets_the_units(fails: Fails) -> None:
    line = await fails(UNAVAILABLE, "status", CREDITSD_DSN="", PGHOST="127.0.0.1", PGPORT="1")
    assert "no dsn is set, so libpq's own variables say where PostgreSQL is" in line
    assert "sudo CREDITSD_DSN_FILE=/etc/creditsd/dsn creditsd ..." in line


async def test_a_credential_of_a_unit_that_does_not_run_says_who_may_read_it(fails: Fails) -> None:
    sink = '[{"url": "webhook+https://example.com/", "secret_file": "/run/credentials/no-such.service/billing"}]'
    line = await fails(CONFIG, "status", CREDITSD_SINKS=sink)
    assert "systemd shows it to its unit and to root alone, while that unit runs: sudo creditsd ..." in line


async def test_another_table_and_a_daemon_that_leads_ask_for_a_word_first(installed: Operator, tmp_path: Path) -> None:
    database = installed.database
    database.run("CREATE TABLE other_credits (LIKE user_credits INCLUDING ALL)")
    of_ours = "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE 'creditsd%'"
    other = installed.env | {"CREDITSD_SOURCE__TABLE": "public.other_credits"}
    done = await creditsd("install", env=other)
    assert (done.code, done.err.count("\n")) == (CONFIG, 1)
    assert "creditsd is installed for public.user_credits, and these settings name public.other_credits" in done.err
    assert "say it with --yes" in done.err
    assert database.run(of_ours) == [("user_credits",)]
    assert (await creditsd("install", "--yes", env=other)).code == 0
    assert database.run(of_ours) == [("other_credits",)]
    database.run("ALTER TABLE other_credits RENAME TO third_credits")  # the same table by another name
    third = installed.env | {"CREDITSD_SOURCE__TABLE": "public.third_credits"}
    assert (await creditsd("install", env=third)).code == 0
    async with running(tmp_path, env=third) as daemon:
        await daemon.until_ready()
        done = await creditsd("uninstall", env=third)
        assert (done.code, done.err.count("\n")) == (CONFIG, 1)
        assert "a daemon leads here" in done.err
        assert "say it with --yes" in done.err
        assert (await creditsd("uninstall", "-y", env=third)).code == 0
    assert database.run(of_ours) == []


async def test_a_server_that_knows_neither_the_database_nor_the_role(operator: Operator, fails: Fails) -> None:
    dsn = operator.database.dsn
    assert '"nodb" does not exist' in await fails(CONFIG, "run", CREDITSD_DSN=make_conninfo(dsn, dbname="nodb"))
    line = await fails(CONFIG, "install", CREDITSD_DSN=make_conninfo(dsn, user="who"))
    assert '"who" does not exist: name another user in CREDITSD_DSN' in line


async def test_a_wrong_password_and_a_replica(own_postgres: Callable[..., Postgres]) -> None:
    primary = await asyncio.to_thread(own_postgres)
    primary.psql(REFERENCE_TABLE + "CREATE ROLE app LOGIN PASSWORD 'right';")
    with primary.standby() as standby:
        for command in ("install", "run", "bench"):
            done = await creditsd(command, env=environment(CREDITSD_DSN=standby.dsn()))
            assert (done.code, done.out) == (CONFIG, "")
            assert "read-only replica" in done.err
            assert "point CREDITSD_DSN at the primary" in done.err
    lines = "local all app peer\nlocal all all trust\nhost all postgres all trust\nhost all all all scram-sha-256"
    directory = primary.psql("SHOW data_directory").strip()
    primary.psql(f"COPY (SELECT unnest(string_to_array('{lines}', E'\\n'))) TO '{directory}/pg_hba.conf'")
    primary.psql("SELECT pg_reload_conf()")
    socket = primary.psql("SHOW unix_socket_directories").strip()
    for parts, said in (
        ({"password": "geheim"}, "password authentication failed"),
        ({"password": ""}, "no password supplied: CREDITSD_DSN takes one, or ~/.pgpass"),
        (
            {"host": socket},
            "this socket lets in the account app alone: `runuser -u app -- creditsd ...` with CREDITSD_DSN set",
        ),
    ):
        dsn = make_conninfo(primary.dsn(), user="app", **parts)
        done = await creditsd("install", env=environment(CREDITSD_DSN=dsn, PGPASSFILE="/nonexistent"))
        assert done.code == CONFIG, done.err
        assert said in done.err
        assert "geheim" not in done.err
        assert done.err.count("\n") == 1


async def test_a_role_without_rights_is_told_what_it_lacks(operator: Operator, fails: Fails) -> None:
    role = f"app_{operator.database.name}"
    operator.database.run(f"CREATE ROLE {role} LOGIN")
    poor = {"CREDITSD_DSN": make_conninfo(operator.database.dsn, user=role)}
    try:
        assert "belongs to postgres: run `creditsd install` as postgres" in await fails(CONFIG, "install", **poor)
        operator.database.run(f"ALTER TABLE public.user_credits OWNER TO {role}")
        assert "permission denied for database" in await fails(CONFIG, "install", **poor)
        operator.database.run("ALTER TABLE public.user_credits OWNER TO postgres")
        await operator.install()
        assert "permission denied" in await fails(CONFIG, "run", **poor)
        assert "creditsd install --role" in await fails(CONFIG, "status", **poor)
    finally:
        operator.database.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_misspelt_setting_names_the_right_one(fails: Fails, tmp_path: Path) -> None:
    misplaced, broken = tmp_path / "misplaced.toml", tmp_path / "broken.toml"
    misplaced.write_text("[source]\ncan_buy = 'always'\n")
    broken.write_text("dsn = \n")
    lines = await asyncio.gather(
        fails(CONFIG, "config", CREDITSD_SOUCE__TABLE="x"),
        fails(CONFIG, "config", CREDITSD_POLL_SECONDS="soon"),
        fails(CONFIG, "--config", str(misplaced), "run"),
        fails(CONFIG, "install", CREDITSD_CONFIG=str(broken)),
        fails(CONFIG, "-c", str(tmp_path / "none.toml"), "install"),
    )
    assert lines[0].endswith("unknown setting CREDITSD_SOUCE__TABLE: did you mean CREDITSD_SOURCE__TABLE?")
    assert "CREDITSD_POLL_SECONDS = 'soon'" in lines[1]
    assert "unknown setting source.can_buy: did you mean can_buy?" in lines[2]
    assert "broken TOML" in lines[3]
    assert "cannot read the configuration" in lines[4]


LOADED = """
import sys
from creditsd.__main__ import main
try:
    main()
finally:
    print(sorted({"rich", "typer", "creditsd.cli.app", "creditsd.daemon.app"} & set(sys.modules)))
    from creditsd.postgres import sql_files
    before = sql_files._text.cache_info()
    print(before.currsize == sql_files.keep_all())  # an upgrade may replace the files under it
"""


async def test_run_where_nobody_looks_on_says_the_same_and_loads_nothing_for_people(tmp_path: Path) -> None:
    config = tmp_path / "creditsd.toml"
    config.write_text('dns = "postgresql://localhost"')
    command = [sys.executable, "-c", LOADED, "--config", str(config), "run"]
    alone = await asyncio.to_thread(
        subprocess.run, command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    full = await creditsd(f"--config={config}", "run", env=environment())
    assert (alone.returncode, alone.stderr) == (78, full.err)
    assert full.code == 78
    assert alone.stdout == "['creditsd.daemon.app']\nTrue\n"


async def test_a_configuration_without_a_name_is_none(fails: Fails) -> None:
    apart = await fails(CONFIG, "--config", "", "run")
    assert "cannot read the configuration" in apart
    assert await fails(CONFIG, "--config=", "run") == apart


async def test_a_sink_that_cannot_be(fails: Fails) -> None:
    wrong = [
        ("redsi://x", "unknown scheme 'redsi': did you mean redis?"),
        ('[{"name": "a", "url": "stdout:"}, {"name": "a", "url": "stdout:"}]', "two sinks are called 'a'"),
        ('[{"name": "a", "url": "redis://x", "tls": true}]', "sink a: unknown option 'tls'"),
        ("redis://user:geheim@host/notanumber", "database is not a number"),
        ('[{"url": "webhook+https://x", "secret": "geheim!"}]', "not whsec_ and base64: make one with"),
        ('[{"url": "supabase+https://x", "key": "sb_publishable_geheim"}]', "key is the public one"),
    ]
    lines = await asyncio.gather(*(fails(CONFIG, "run", CREDITSD_SINKS=sinks) for sinks, _ in wrong))
    for line, (_, said) in zip(lines, wrong, strict=True):
        assert said in line
        assert "geheim" not in line


async def test_a_sink_whose_library_is_not_installed_names_the_extra(
    operator: Operator, fails: Fails, tmp_path: Path
) -> None:
    (tmp_path / "redis.py").write_text("raise ModuleNotFoundError(\"No module named 'redis'\", name='redis')\n")
    line = await fails(CONFIG, "run", CREDITSD_SINKS="redis://localhost", PYTHONPATH=str(tmp_path))
    assert line == "creditsd: sink redis needs redis: pip install 'creditsd[redis]'"


async def test_not_installed_yet(fails: Fails) -> None:
    commands = [["run"], ["status"], ["backfill"], ["watch"], ["explain", ONE]]
    for line in await asyncio.gather(*(fails(CONFIG, *command) for command in commands)):
        assert line.endswith("run `creditsd install`")


async def test_get_says_what_is_wrong_as_json(operator: Operator) -> None:
    done = await operator.creditsd("get", ONE)
    assert done.code == CONFIG
    assert done.json["success"] is False
    assert "run `creditsd install`" in done.json["error"]
    done = await operator.creditsd("get", ONE, CREDITSD_DSN="postgresql://app:geheim@127.0.0.1:1/app")
    assert done.code == UNAVAILABLE
    assert "geheim" not in done.out + done.err


async def test_an_id_that_cannot_be_one(installed: Operator) -> None:
    got, explained = await asyncio.gather(installed.creditsd("get", "7"), installed.creditsd("explain", "7"))
    assert got.code == explained.code == DATA
    assert got.json == {"success": False, "error": "'7' is not a user's id here: the table's are uuid"}
    assert explained.err == "creditsd: '7' is not a user's id here: the table's are uuid\n"
    assert (await installed.creditsd("watch", "7")).code == DATA


async def test_a_port_in_use(installed: Operator, fails: Fails) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = await fails(CONFIG, "run", CREDITSD_DSN=installed.database.dsn, CREDITSD_HTTP__LISTEN=address)
        assert f"cannot listen on {address}" in line


async def test_settings_that_differ_from_what_is_installed(installed: Operator, fails: Fails) -> None:
    other = {"CREDITSD_DSN": installed.database.dsn, "CREDITSD_SOURCE__ACTIVE_STATUSES": "active,trialing"}
    line = await fails(CONFIG, "run", **other)
    assert "differ from what is installed: run `creditsd install`" in line


async def test_a_table_that_changed_under_the_daemon_stops_it_until_it_is_mended(
    installed: Operator, tmp_path: Path
) -> None:
    async def leaders() -> int:
        return len([each for each in installed.database.server.connections(installed.database.name) if LEADER in each])

    async with running(tmp_path, env=installed.env) as daemon:
        await daemon.until_ready()
        installed.database.run("ALTER TABLE public.user_credits RENAME COLUMN membership TO plan_name")
        installed.database.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OF_LEADER}")
        await eventually(leaders, lambda count: count == 0)
        installed.database.run(f"UPDATE public.user_credits SET credits = 1 WHERE user_id = '{ONE}'")
        await daemon.until_logged_with("daemon.interrupted", "run `creditsd install`")
        assert (await daemon.ask("/livez"))[0] == 200
        installed.database.run("ALTER TABLE public.user_credits RENAME COLUMN plan_name TO membership")
        await daemon.until_state("leading")


async def test_run_where_the_port_is_free_but_the_database_is_gone(operator: Operator, fails: Fails) -> None:
    await fails(
        UNAVAILABLE,
        "run",
        CREDITSD_DSN=f"host=127.0.0.1 port={free_port()} dbname=x user=x",
        CREDITSD_HTTP__LISTEN=f"127.0.0.1:{free_port()}",
    )
