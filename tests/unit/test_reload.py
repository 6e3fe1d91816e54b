"""A signal that comes too early, and what a reload may leave alone."""

from __future__ import annotations

import asyncio
import signal
import threading
from pathlib import Path

from creditsd.config import reload
from creditsd.config.settings import SinkSettings
from creditsd.daemon.app import RELOADED
from creditsd.sinks import made_of


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
