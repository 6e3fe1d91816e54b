from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

import pytest
import structlog

from creditsd.config import log
from creditsd.config.log_writer import LogWriter
from creditsd.config.settings import LogSettings
from tests.conftest import PATIENCE_SECONDS


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Any:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure(LogSettings(**settings))
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    written = lines(monkeypatch)
    structlog.get_logger().info("publisher.delivered", sink="cache", users=3)
    (event,) = written()
    at = datetime.fromisoformat(event.pop("timestamp"))
    assert at.utcoffset() is not None
    assert event == {"event": "publisher.delivered", "level": "info", "sink": "cache", "users": 3}


def test_a_terminal_gets_lines_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure(LogSettings())
    structlog.get_logger().info("doorbell.lost")
    assert "doorbell.lost" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()
    assert "{" not in stream.getvalue()


def test_the_level_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    written = lines(monkeypatch, level="warning")
    structlog.get_logger().info("too.quiet")
    structlog.get_logger().warning("loud.enough")
    assert [event["event"] for event in written()] == ["loud.enough"]


def test_libraries_speak_from_warning_on_and_in_the_same_form(monkeypatch: pytest.MonkeyPatch) -> None:
    written = lines(monkeypatch, level="debug")
    library = logging.getLogger("psycopg.pool")
    library.info("chatter")
    library.warning("error connecting to %s", "postgresql://app:hunter2@db/app")
    (event,) = written()
    assert event["logger"] == "psycopg.pool"
    assert event["event"] == "error connecting to postgresql://app:***@db/app"


def test_a_python_warning_is_an_event_too(monkeypatch: pytest.MonkeyPatch) -> None:
    written = lines(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old ways", stacklevel=1)
    assert "old ways" in written()[0]["event"]


def test_no_secret_gets_into_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    written = lines(monkeypatch)
    logger = structlog.get_logger()
    try:
        int("host=db password=hunter2")
    except ValueError:
        logger.exception("database.lost", dsn="postgresql://a:hunter2@b", options={"jwt_secret": "hunter2"})
        logging.getLogger("lib").exception("broken")
    logger.info("redis.stored", key="credits:u1", api_key="hunter2")
    first, second, third = written()
    assert "hunter2" not in json.dumps([first, second, third])
    assert "password=***" in first["exception"]
    assert "password=***" in second["exception"]
    assert third["key"] == "credits:u1"


def test_whoever_does_not_read_the_log_stops_nobody_and_is_told_what_was_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    writer = LogWriter()
    counted: list[int] = []
    heard: list[bytes] = []
    changed = threading.Condition()

    def count(dropped: int) -> None:
        with changed:
            counted.append(dropped)
            changed.notify()

    def read() -> None:
        with os.fdopen(reading, "rb", buffering=0) as reader:
            for chunk in iter(partial(reader.read, 65536), b""):
                with changed:
                    heard.append(chunk)
                    changed.notify()

    def accounted() -> int:
        return b"".join(heard).count(b"\n") + sum(counted)

    late = threading.Thread(target=read)
    with os.fdopen(writing, "w") as stream:  # holds 64 KiB, and then a write does not return
        monkeypatch.setattr(sys, "stderr", stream)
        with writer.threaded(count, kept_lines=10):
            for number in range(2000):
                writer.write(f"{number:01023d}\n")
            late.start()
            with changed:
                assert changed.wait_for(lambda: accounted() == 2000, PATIENCE_SECONDS)
    late.join()
    told = [int(line) for line in b"".join(heard).splitlines()]
    assert told == sorted(told)
    assert sum(counted) > 1900 - 64


def test_a_log_that_nobody_reads_does_not_keep_the_process_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    writer = LogWriter()
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with writer.threaded(lambda _: None):
            for number in range(200):
                writer.write(f"{number:01023d}\n")
        assert writer.write("never said\n") == 0
        os.close(reading)  # the thread's write fails, and it goes on to its end
        for thread in threading.enumerate():
            if thread.name == "log":
                thread.join()
