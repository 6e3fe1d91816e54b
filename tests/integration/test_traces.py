"""Traces from commit to delivery: what arrives at a collector, and that nobody waits for one."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from creditsd.config.settings import Settings
from tests.conftest import PATIENCE_SECONDS, SERVERS, Database, eventually
from tests.integration.collector import Collector
from tests.integration.line import USER
from tests.integration.running import running, until
from tests.integration.test_reload import ADD, SET, File, until_told, webhook
from tests.integration.test_reload import running as reloading
from tests.sinks.webhook_harness import Receiver
from tests.workshop import free_port

SAMPLED = 1
one_server = pytest.mark.parametrize("postgres_server", SERVERS[:1], indirect=True)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    await made.start()
    yield made
    await made.stop()


def traced(settings: Settings, url: str, receiver: Receiver, **more: object) -> Settings:
    file = File(settings)
    file.sinks(webhook("one", receiver), tracing={"otlp_url": url, **more})
    return file.settings


@one_server
async def test_a_change_arrives_as_a_drain_and_below_it_its_delivery_which_the_webhook_names(
    installation: Database, settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    async with Collector() as collector:
        async with running(traced(settings, collector.url, receiver)) as daemon:
            await until(daemon, "state", "leading")
            installation.run(ADD, [USER, 5])
            await until_told(receiver, USER, 5)
            await eventually(collector.below_a_drain)
        (sent,) = [each for each in receiver.deliveries if each.data["credits"] == 5]
        version, trace_id, span_id, flags = sent.headers["traceparent"].split("-")
        (delivery,) = [each for each in collector.named("creditsd.deliver") if each.span_id == span_id]
        (drain,) = [each for each in collector.named("creditsd.drain") if each.span_id == delivery.parent_id]
    assert version == "00"
    assert int(flags, 16) & SAMPLED
    assert trace_id == delivery.trace_id == drain.trace_id
    assert drain.parent_id == ""
    assert drain.attributes == {"creditsd.changes": 1, "creditsd.users": 1, "creditsd.totals": 1}
    assert drain.began < drain.ended <= delivery.began < delivery.ended
    seconds = delivery.attributes.pop("creditsd.commit_to_publish_seconds")
    assert delivery.attributes == {"creditsd.sink": "one", "creditsd.totals": 1, "creditsd.refused": 0}
    stored_at = int(sent.data["version"]) * 1000
    assert abs(seconds - (delivery.ended - stored_at) / 1e9) < 60.0
    assert {each.service for each in collector.spans} == {"creditsd"}
    sent.verify()


@one_server
async def test_what_is_not_sampled_is_not_sent_and_says_so_to_the_webhook(
    installation: Database, settings: Settings, receiver: Receiver
) -> None:
    async with Collector() as collector:
        async with running(traced(settings, collector.url, receiver, sample_ratio=0)):
            installation.run(ADD, [USER, 5])
            await until_told(receiver, USER, 5)
        assert collector.spans == []
    assert not int(receiver.deliveries[-1].headers["traceparent"].rpartition("-")[2], 16) & SAMPLED


@one_server
async def test_a_collector_that_is_dead_loses_no_delivery_and_is_told_of_in_one_line(
    installation: Database, settings: Settings, receiver: Receiver
) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1/traces"
    with capture_logs() as said:
        async with running(traced(settings, url, receiver)):
            for amount in range(1, 6):
                installation.run(ADD if amount == 1 else SET, [USER, 1] if amount == 1 else [amount, USER])
                await until_told(receiver, USER, amount)
            logging.getLogger("opentelemetry.sdk").error("once\nmore")
    (line,) = [each for each in said if each["event"] == "tracing.troubled"]
    assert "\n" not in line["reason"]


@one_server
async def test_another_setting_takes_a_restart(installation: Database, settings: Settings, receiver: Receiver) -> None:
    file = File(settings)
    async with reloading(file) as daemon:
        await until(daemon, "state", "leading")
        file.sinks(tracing={"otlp_url": "http://127.0.0.1:9/v1/traces", "sample_ratio": 0.5})
        daemon.reload()
        said = await file.logged("settings.restart_needed")
    assert said["settings"] == ["tracing.otlp_url", "tracing.sample_ratio"]


def test_where_traces_are_off_nothing_of_the_library_is_imported() -> None:
    program = """
import sys
from creditsd.config.settings import Settings
from creditsd.daemon.app import Daemon
import creditsd.sinks.webhook
Daemon(Settings())
print([each for each in sys.modules if each.startswith("opentelemetry")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_library_that_is_missing_is_one_clear_line() -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None
from creditsd.__main__ import main
sys.argv = ["creditsd", "run"]
main()
"""
    environment = {**os.environ, "CREDITSD_TRACING__OTLP_URL": "http://127.0.0.1:4318/v1/traces"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (78, "creditsd: tracing needs: pip install 'creditsd[otel]'\n")


@one_server
async def test_a_collector_that_does_not_answer_holds_up_the_end_for_a_bounded_time(
    installation: Database, settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "3600")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    asked, leave = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await leave.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", port := free_port())
    async with running(traced(settings, f"http://127.0.0.1:{port}/v1/traces", receiver)):
        installation.run(ADD, [USER, 5])
        await until_told(receiver, USER, 5)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asked.wait()
    (closing,) = [each for each in threading.enumerate() if each.name == "traces"]  # the library still tries
    leave.set()
    server.close()
    await asyncio.to_thread(closing.join)
