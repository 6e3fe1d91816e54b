"""creditsd bench: what it finds, and that nothing of it is left, however it ended."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from psycopg.conninfo import make_conninfo

from creditsd.bench.measure import CAPTURE, NOTIFY, PLAIN, Cell, Findings, measure
from creditsd.bench.schema import relocated
from creditsd.config.settings import Settings
from creditsd.domain.errors import ConfigError, CreditsdError, DatabaseUnavailable, InputError, SchemaError
from tests.acceptance.command import COMMAND, environment
from tests.conftest import Database, eventually
from tests.integration.leading import restricted
from tests.integration.line import USER, configured, installed

SCRATCH = "SELECT count(*) FROM pg_namespace WHERE nspname = 'creditsd_bench'"


async def measured(settings: Settings, *, clients: int = 2, seconds: float = 0.6) -> Findings:
    return await measure(settings, clients=clients, seconds=seconds, announce=lambda: None, progress=lambda *_: None)


async def refused(settings: Settings, error: type[CreditsdError], *, clients: int = 2) -> str:
    with pytest.raises(error) as raised:
        await measured(settings, clients=clients)
    return str(raised.value)


def left(database: Database) -> bool:
    return database.run(SCRATCH) != [(0,)]


def settled(database: Database) -> str:
    """What is in the database but for what the server counts by itself."""
    return database.pg_dump("--schema-only")


async def test_every_variant_is_measured_and_the_applications_database_is_as_before(reference_table: Database) -> None:
    settings = await installed(reference_table)
    reference_table.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')", [USER])
    before = settled(reference_table)
    found = await measured(settings)
    assert settled(reference_table) == before
    assert reference_table.run("SELECT credits FROM user_credits") == [(5,)]
    assert reference_table.run("SELECT count(*) FROM creditsd.changes") == [(1,)]
    cells = [(cell.clients, cell.variant) for cell in found.cells]
    assert cells == [(clients, variant) for clients in (1, 2) for variant in (PLAIN, NOTIFY, CAPTURE)]
    assert all(min(cell.rates) > 0 and cell.p50_ms > 0 for cell in found.cells)
    assert found.flushes is False  # as our test servers are


async def test_the_table_measured_has_the_triggers_that_install_puts_on_it(reference_table18: Database) -> None:
    seen: list[Any] = []

    def look(*_: int) -> None:
        if not seen:
            triggers = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'creditsd_bench.captured'::regclass ORDER BY 1"
            noted = "SELECT count(*) > 0 FROM creditsd_bench.changes"
            seen.extend((reference_table18.run(triggers), reference_table18.run(noted)))

    await measure(configured(reference_table18), clients=1, seconds=0.3, announce=lambda: None, progress=look)
    names = ("creditsd_delete", "creditsd_insert", "creditsd_truncate", "creditsd_update")
    assert seen[0] == [(name,) for name in names]


@asynccontextmanager
async def running(database: Database, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command; when the block ends so has it."""
    env, pipe = environment(CREDITSD_DSN=database.dsn), asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(COMMAND, "bench", *args, env=env, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_it_cleans_up_when_it_is_ended_in_the_middle(database18: Database, number: signal.Signals) -> None:
    async def writers() -> object:
        return database18.run(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'creditsd bench writer' AND query LIKE '%UPDATE%'"
        )

    async with running(database18, "--seconds=600", "--clients=4") as process:
        await eventually(writers, lambda count: count == [(4,)])
        assert left(database18)
        process.send_signal(number)
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert not left(database18)


async def test_it_cleans_up_when_its_connections_are_ended(database18: Database) -> None:
    def end(*_: int) -> None:
        database18.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'creditsd bench%%'"
        )

    with pytest.raises(DatabaseUnavailable):
        await measure(configured(database18), clients=2, seconds=0.6, announce=lambda: None, progress=end)
    assert not left(database18)


async def test_what_a_killed_one_left_goes_but_nothing_of_anybody_elses(database18: Database) -> None:
    settings = configured(database18)
    database18.run("CREATE SCHEMA creditsd_bench")
    assert "not ours" in await refused(settings, SchemaError)
    assert left(database18)
    database18.run("""COMMENT ON SCHEMA creditsd_bench IS 'Scratch of "creditsd bench", left behind'""")
    await measured(settings, clients=1, seconds=0.2)
    assert not left(database18)


async def test_it_says_before_it_writes_why_it_cannot(database18: Database) -> None:
    settings = configured(database18)
    assert "--clients 500" in await refused(settings, InputError, clients=500)
    async with database18.connect() as other:
        await other.execute("SELECT pg_advisory_lock(hashtextextended('creditsd bench', 0))")
        assert "another" in await refused(settings, DatabaseUnavailable)
    with restricted(database18) as (name, seen):
        assert f"GRANT CREATE ON DATABASE {database18.name} TO {name}" in await refused(configured(seen), SchemaError)
    dsn = make_conninfo(database18.dsn, options="-c default_transaction_read_only=on")
    assert "read-only" in await refused(settings.model_copy(update={"dsn": dsn}), ConfigError)
    assert not left(database18)


async def test_piped_it_prints_one_document(database18: Database) -> None:
    async with running(database18, "--seconds=0.3", "--clients=1") as process:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    assert b"creditsd_bench" in err  # it warns
    document = orjson.loads(out)
    assert [cell["variant"] for cell in document["cells"]] == [PLAIN, NOTIFY, CAPTURE]
    assert document["advice"]


def findings(*, notify: float, capture: float, flushes: bool = True, processor_share: float = 0.2) -> Findings:
    rates = {PLAIN: 1000.0, NOTIFY: notify, CAPTURE: capture}
    cells = [
        Cell(clients, variant, [rate] * 5, 1000 / rate, 1.0, processor_share)
        for clients in (1, 16)
        for variant, rate in rates.items()
    ]
    return Findings("18.0", flushes, cells)


def test_the_advice_names_the_cap_of_notify() -> None:
    advice = " ".join(findings(notify=200, capture=800).advice())
    assert "keeps 80% of the rate at 16 clients" in advice
    assert "about 200 writes/s" in advice
    assert "4.0 times that" in advice
    assert "250 µs" in advice


def test_the_advice_says_why_notify_looks_cheap() -> None:
    assert "more --clients" in " ".join(findings(notify=900, capture=950).advice())
    assert "flush nothing" in " ".join(findings(notify=900, capture=950, flushes=False).advice())


def test_the_advice_admits_what_spoils_the_figures() -> None:
    assert "whole processor" in " ".join(findings(notify=900, capture=950, processor_share=1.1).advice())
    assert "whole processor" not in " ".join(findings(notify=900, capture=950).advice())


def test_nothing_of_the_installed_schema_is_named_in_the_scratch() -> None:
    script = "CREATE SCHEMA creditsd;INSERT INTO creditsd.changes; NOTIFY creditsd; CREATE TRIGGER creditsd_insert"
    made = "INSERT INTO creditsd_bench.changes; NOTIFY creditsd_bench; CREATE TRIGGER creditsd_insert"
    assert relocated(script) == made
