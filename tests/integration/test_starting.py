"""Starts that cannot succeed say why, and what to do."""

from __future__ import annotations

import asyncio
import socket

import pytest
from psycopg.conninfo import make_conninfo

from creditsd.config.settings import Settings
from creditsd.daemon.app import Daemon
from creditsd.domain.errors import ConfigError, CreditsdError, DatabaseUnavailable, SchemaError
from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import MemorySink, configured


@pytest.mark.parametrize(
    ("dsn", "kind", "says"),
    [
        ({"dbname": "no_such_database"}, ConfigError, "no_such_database"),
        ({"user": "no_such_role"}, ConfigError, "no_such_role"),
        ({"port": 1}, DatabaseUnavailable, "is PostgreSQL running"),
    ],
)
async def test_a_first_start_that_finds_no_database_says_why(
    installation: Database, settings: Settings, dsn: dict[str, str | int], kind: type[CreditsdError], says: str
) -> None:
    sink = MemorySink()
    wrong = settings.model_copy(update={"dsn": make_conninfo(settings.dsn, **dsn)})
    async with asyncio.timeout(60):
        with pytest.raises(kind, match=says):
            await Daemon(wrong, extra=[("memory", sink)]).run()
    assert sink.tries == 0


async def test_a_first_start_where_nothing_is_installed_says_what_to_do(reference_table: Database) -> None:
    settings = configured(reference_table)
    with pytest.raises(SchemaError, match="not installed in this database: run `creditsd install`"):
        await Daemon(settings, extra=[("memory", MemorySink())]).run()
    await schema.install(settings)
    reference_table.run("DROP TRIGGER creditsd_delete ON user_credits")
    with pytest.raises(SchemaError, match=r"triggers are missing on public\.user_credits: run `creditsd install`"):
        await Daemon(settings, extra=[("memory", MemorySink())]).run()


async def test_settings_that_differ_from_the_install_are_refused(installation: Database) -> None:
    settings = configured(installation, source={"active_statuses": ["live"]})
    with pytest.raises(SchemaError, match="settings differ from what is installed: run `creditsd install`"):
        await Daemon(settings).run()


async def test_an_address_that_is_taken_is_said(installation: Database) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        host, port = taken.getsockname()
        settings = configured(installation, http={"listen": f"{host}:{port}"})
        with pytest.raises(ConfigError, match=rf"cannot listen on {host}:{port}"):
            await Daemon(settings).run()


def test_a_sink_nobody_knows_is_refused_before_anything_is_opened(installation: Database) -> None:
    with pytest.raises(ConfigError, match="unknown scheme 'redsi': did you mean redis"):
        Daemon(configured(installation, sinks=[{"name": "cache", "url": "redsi://localhost"}]))
