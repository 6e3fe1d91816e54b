"""A signal that comes too early, and what a reload may leave alone."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from creditsd.config import reload, settings
from creditsd.config.reload import Reload
from creditsd.config.settings import Settings, SinkSettings, load
from creditsd.daemon.app import RELOADED
from creditsd.sinks import made_of
from tests.beside import beside
from tests.conftest import eventually


async def test_a_signal_that_comes_before_anybody_listens_is_heard_then() -> None:
    asked = asyncio.Event()
    reload.hold_back()
    try:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGHUP)
        reload.listen(asked.set, lambda: None)
        async with asyncio.timeout(60):
            await asked.wait()
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


def test_every_setting_is_applied_or_takes_a_restart_or_is_none_of_the_daemons() -> None:
    assert RELOADED.applies("sinks")
    assert RELOADED.applies("http.api_keys")
    assert not RELOADED.applies("http.listen")
    assert RELOADED.restarts("http.listen")
    assert RELOADED.restarts("http.jwt_user_claim"), "which creditsd install puts into the database, too"
    assert RELOADED.applies("http.servers")
    assert RELOADED.restarts("source.columns.user_id")
    assert not RELOADED.restarts("serve.feed")


def test_a_sink_whose_certificate_is_renewed_in_its_file_is_another_one(tmp_path: Path) -> None:
    certificate = tmp_path / "client.pem"
    certificate.write_text("one")
    sink = SinkSettings(name="bus", url="nats+tls://nats:4222", options={"client_certificate": str(certificate)})
    before = made_of(sink)
    assert made_of(sink) == before
    certificate.write_text("two")
    assert made_of(sink) != before


HOLDS = """[[sinks]]
name = "out"
url = "stdout:"
"""


@asynccontextmanager
async def reloading() -> AsyncIterator[tuple[Reload, list[Settings], list[Any]]]:
    """A process that runs with the settings there are; what it took since, and what it said."""
    taken: list[Settings] = []

    async def apply(news: Settings) -> Mapping[str, object]:
        taken.append(news)
        return {}

    found = Reload(load(), whose="daemon", read=load, scope=RELOADED, apply=apply, said=lambda: None)
    with capture_logs() as said:
        async with beside(found.run()):
            yield found, taken, said


@pytest.mark.parametrize("found", [None, "", "# nothing yet\n"])
async def test_a_file_that_is_moved_away_or_being_written_is_not_settings_that_are_all_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    file = tmp_path / "creditsd.toml"
    monkeypatch.setattr(settings, "DEFAULT_FILE", file)
    file.write_text(HOLDS)
    async with reloading() as (process, taken, said):

        async def events() -> list[Any]:
            return said

        file.unlink()
        if found is not None:
            file.write_text(found)
        process.ask()
        (refused,) = await eventually(events, bool)
        assert (refused["event"], taken) == ("daemon.reload_refused", [])
        assert str(file) in refused["reason"]
        assert "restart" in refused["reason"]
        file.write_text(HOLDS.replace("out", "other"))
        process.ask()
        await eventually(events, lambda all_: len(all_) == 2)
        assert [each.sink_names for each in taken] == [["other"]]


async def test_a_file_that_never_held_a_setting_may_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "creditsd.toml"
    monkeypatch.setattr(settings, "DEFAULT_FILE", file)
    file.write_text("# all of it is in the environment\n")
    async with reloading() as (process, taken, _):

        async def count() -> int:
            return len(taken)

        file.unlink()
        process.ask()
        assert await eventually(count, bool) == 1
