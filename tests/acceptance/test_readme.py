"""The README's own lines, run; and what the documents list, held against the program."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from pydantic import BaseModel

from creditsd import sinks
from creditsd.config import settings as settings_module
from tests.conftest import Database
from tests.servers import Valkey, free_port, versions
from tests.workshop import redis_program

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PATIENCE_SECONDS = 30

# What the README names, and what stands in for it here.
DSN, REDIS, ENDPOINT = "postgresql://localhost/app", "redis://localhost:6379/0", "https://example.com/hooks/credits"


def block(name: str) -> str:
    """The fenced text behind `<!-- run: name -->`."""
    found = re.search(rf"<!-- run: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found is not None, f"README.md has no block called {name}"
    return found[1]


@pytest.fixture
def environment(tmp_path: Path, reference_database: Database, valkey: Valkey) -> dict[str, str]:
    """A shell's environment with the installed command, psql, and redis-cli."""
    commands = tmp_path / "bin"
    commands.mkdir()
    redis_cli = redis_program("cli")
    psql = next(iter(versions().values())) / "psql"
    for name, command in (
        ("redis-cli", f"{redis_cli} -p {valkey.port}"),
        ("psql", str(psql)),
        ("pip", "true"),
    ):
        (commands / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (commands / name).chmod(0o755)
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"PATH": path, "HOME": str(tmp_path), "CREDITSD_HTTP__LISTEN": f"127.0.0.1:{free_port()}"}


@pytest.fixture
def reference_database(database18: Database) -> Database:
    """A database with the README's table and its one user."""
    database18.psql(block("table"))
    return database18


@contextlib.contextmanager
def shell(lines: str, directory: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run lines in a shell of their own, the last one until the block ends."""
    *first, last = lines.strip().splitlines()
    script = "\n".join(["set -e", *first, f"exec {last}"])
    process = subprocess.Popen(
        ["/bin/sh", "-c", script],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, out + err


def until(command: str, wanted: re.Pattern[str], directory: Path, environment: dict[str, str]) -> str:
    """Repeat a command until its output is as wanted."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        done = subprocess.run(
            command, shell=True, cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
        if wanted.search(done.stdout):
            return done.stdout
        assert time.monotonic() < deadline, f"{command}: {done.stdout}{done.stderr}"
        time.sleep(0.02)  # between two tries of what a reader would try again


def test_the_first_example_is_true(
    tmp_path: Path, reference_database: Database, valkey: Valkey, environment: dict[str, str]
) -> None:
    lines = block("install").replace(DSN, shlex.quote(reference_database.dsn)).replace(REDIS, valkey.url)
    there = environment | {"CREDITSD_DSN": reference_database.dsn}
    conversation = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block("change"), re.MULTILINE)
    update, lookup = conversation
    with shell(lines, tmp_path, environment):
        until(lookup[0], re.compile('"credits":125'), tmp_path, there)
        done = subprocess.run(update[0], shell=True, env=there, capture_output=True, text=True, check=True)
        assert done.stdout == update[1]
        held = json.loads(until(lookup[0], re.compile('"credits":120'), tmp_path, there))
    promised = json.loads(lookup[1])
    assert list(held) == list(promised)
    changing = ("version", "updated_at")
    assert {key: held[key] for key in held if key not in changing} == {
        key: promised[key] for key in promised if key not in changing
    }


def test_the_extras_named_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = re.findall(r"creditsd\[([\w,]+)\]", README)
    assert {extra for names in named for extra in names.split(",")} <= set(extras)


class Receiver(BaseHTTPRequestHandler):
    """Puts what is posted into a queue."""

    def __init__(self, queue: Queue[tuple[bytes, dict[str, str]]], *args: Any) -> None:
        self._queue = queue
        super().__init__(*args)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self._queue.put((body, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[tuple[str, Queue[tuple[bytes, dict[str, str]]]]]:
    queue: Queue[tuple[bytes, dict[str, str]]] = Queue()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Receiver, queue)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hooks/credits", queue
        server.shutdown()
        thread.join()


def test_the_consumer_accepts_what_the_webhook_sends(
    tmp_path: Path,
    reference_database: Database,
    valkey: Valkey,
    environment: dict[str, str],
    endpoint: tuple[str, Queue[tuple[bytes, dict[str, str]]]],
) -> None:
    url, queue = endpoint
    text = block("webhook settings")
    make_secret = re.search(r"# made by: (.*)", text)
    assert make_secret is not None
    subprocess.run(make_secret[1], shell=True, cwd=tmp_path, check=True)
    text = text.replace(DSN, reference_database.dsn).replace(REDIS, valkey.url).replace(ENDPOINT, url)
    (tmp_path / "creditsd.toml").write_text(f'{text}\nallow_cidrs = ["127.0.0.0/8"]\n')
    consumer: dict[str, Any] = {}
    with contextlib.chdir(tmp_path):
        exec(compile(block("consumer"), "README.md", "exec"), consumer)
    run = "creditsd --config creditsd.toml"
    assert f"`{run} run`" in README
    with shell(f"{run} install\n{run} run", tmp_path, environment):
        deliveries = [queue.get(timeout=PATIENCE_SECONDS)]
        reference_database.run("UPDATE user_credits SET credits = credits - 5")
        deliveries.append(queue.get(timeout=PATIENCE_SECONDS))
    for body, headers in [*reversed(deliveries), *deliveries]:  # late, and twice
        consumer["receive"](body, headers)
    assert [total["credits"] for total in consumer["newest"].values()] == [120]
    event = json.loads(deliveries[1][0])
    assert (event["type"], event["data"]["cause"], event["data"]["previous"]["credits"]) == (
        "credits.updated",
        "change",
        125,
    )


def _leaves(section: type[BaseModel], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, f"{above}{name}.")
        else:
            yield f"{above}{name}", field.default


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {
        key: tomllib.loads(f"value = {default}")["value"]
        for key, default in re.findall(r"^\| `([a-z_.]+)` \| `([^`]*)` \|", CONFIGURATION, re.MULTILINE)
    }
    assert documented == dict(_leaves(settings_module.Settings))


def test_the_example_configuration_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CREDITSD_")]:
        monkeypatch.delenv(name)
    for number, text in enumerate(re.findall(r"```toml\n(.*?)```", CONFIGURATION, re.DOTALL)):
        path = tmp_path / f"{number}.toml"
        path.write_text(re.sub(r"(\w+)_file = .*", r'\1 = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"', text))
        for sink in settings_module.load(path).sinks:
            sinks.make(sink)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_points_to_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        other = document.parent / path if path else document
        assert other.exists(), target
        if anchor:
            assert anchor in _anchors(other.read_text(encoding="utf-8")), target


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
