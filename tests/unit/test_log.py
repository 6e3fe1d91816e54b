from __future__ import annotations

import ast
import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog

from creditsd.config import log
from creditsd.config.log_writer import LogWriter
from creditsd.config.settings import LogSettings
from creditsd.postgres import notices
from tests.conftest import PATIENCE_SECONDS

PACKAGE = Path(log.__file__).parents[1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level, config = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.configure(**config)


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
    assert next(iter(event)) == "event"


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


SAYS_ALL = """
import logging, structlog
from creditsd.config import log
from creditsd.config.settings import LogSettings
from creditsd.cli.console import complain
log.configure(LogSettings(level="debug", format="{form}"))
structlog.get_logger().debug("a.batch")
structlog.get_logger().info("a.change")
logging.getLogger("library").warning("a library")
try:
    int("x")
except ValueError:
    structlog.get_logger().exception("a.fault", dsn="x")
complain("it ends")
"""


def said_to_socket(*command: str, journal: bool, code: int = 0, **settings: str) -> list[str]:
    """Run Python with a command line whose standard error is a socket, journald's or another; return its lines."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        about = os.fstat(theirs.fileno())
        stream = f"{about.st_dev}:{about.st_ino if journal else about.st_ino + 1}"
        env = os.environ | {"JOURNAL_STREAM": stream, "PYTHONPATH": os.pathsep.join(sys.path)} | settings
        done = subprocess.run([sys.executable, *command], env=env, stderr=theirs.fileno(), check=False)
        assert done.returncode == code
        theirs.shutdown(socket.SHUT_WR)
        with ours.makefile() as lines:
            return lines.read().splitlines()


def test_journald_is_told_the_priority_of_each_line() -> None:
    said = said_to_socket("-c", SAYS_ALL.format(form="json"), journal=True)
    assert [line[:3] for line in said] == ["<7>", "<6>", "<4>", "<3>", "<3>"]
    assert [json.loads(line[3:])["event"] for line in said[:4]] == ["a.batch", "a.change", "a library", "a.fault"]
    assert said[-1] == "<3>creditsd: it ends"


def test_journald_is_told_it_for_each_line_of_a_traceback_too() -> None:
    said = said_to_socket("-c", SAYS_ALL.format(form="console"), journal=True)
    assert {line[:3] for line in said} == {"<7>", "<6>", "<4>", "<3>"}
    assert any("Traceback" in line for line in said)
    assert [line for line in said if "Value" in line and not line.startswith("<3>")] == []


@pytest.mark.parametrize("command", [["run"], ["status"]])
def test_journald_is_told_that_why_a_command_failed_is_an_error(command: list[str]) -> None:
    said = said_to_socket("-m", "creditsd", *command, journal=True, code=78, CREDITSD_SOUCE__TABLE="x")
    assert said == ["<3>creditsd: unknown setting CREDITSD_SOUCE__TABLE: did you mean CREDITSD_SOURCE__TABLE?"]


def test_nobody_else_is_told_priorities() -> None:
    said = said_to_socket("-c", SAYS_ALL.format(form="json"), journal=False)
    assert [line for line in said if line.startswith("<")] == []


def test_a_name_of_an_event_means_one_thing() -> None:
    written: Counter[str] = Counter(notices.EVENTS.values())
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            written.update(named_in(node))
    assert len(written) > 60
    assert [event for event, places in written.items() if places > 1] == []
    assert [event for event in written if not re.fullmatch(r"[a-z]+\.[a-z_]+", event)] == []


def named_in(node: ast.AST) -> list[str]:
    """The event that a call logs, where it names one."""
    match node:
        case ast.Call(
            func=ast.Attribute(attr="debug" | "info" | "warning" | "error" | "exception") | ast.Name(id="say"),
            args=[ast.Constant(value=str(event)), *_],
        ) if " " not in event:
            return [event]
    return []


def test_whatever_our_functions_in_the_database_say_is_an_event_of_its_own() -> None:
    sources = "".join(path.read_text() for path in (PACKAGE.parent / "sql" / "functions").glob("*.sql"))
    said = [text.replace("''", "'") for text in re.findall(r"RAISE (?:NOTICE|WARNING) 'creditsd (.+?)'[,;]", sources)]
    assert len(said) >= 5
    assert {notices.event_of(message) for message in said} == set(notices.EVENTS.values())


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
