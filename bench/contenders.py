"""Whoever turns a change into a total in Valkey, creditsd and its peers, each with its own database and Valkey."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from psycopg.conninfo import make_conninfo

from bench.ground import Ground
from bench.line import Line
from bench.peers import HANDWRITTEN, NAMES, Missing, Peer, peer
from tests.servers import ServerError, Valkey

ROWS = 100_000
CREDITSD = "creditsd"

# What a peer writes needs no flush of its own, any more than what creditsd writes.
WORKER = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'worker') THEN CREATE ROLE worker SUPERUSER LOGIN; END IF;
END $$;
ALTER ROLE worker SET synchronous_commit = off;
"""


class Contender(Protocol):
    """`start` returns once changes are heard; `empty` forgets what waits, while stopped.

    `likes_backlog`: a burst may come before the start, and the planner be told of it, which is kind to a queue's table.
    """

    @property
    def name(self) -> str: ...
    @property
    def dsn(self) -> str: ...
    @property
    def valkey(self) -> Valkey: ...
    @property
    def likes_backlog(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def empty(self) -> None: ...


class Ours:
    """creditsd, installed and run as a person would."""

    name = CREDITSD
    likes_backlog = False  # it could, but that is another part's question

    def __init__(self, ground: Ground, valkey: Valkey, dbname: str, rows: int, **settings: str) -> None:
        self.dsn, self.valkey = ground.filled(dbname, rows=rows, users=rows), valkey
        self.line = Line(self.dsn, valkey, **settings)
        self.line.install()

    def start(self) -> None:
        self.line.start()
        self.line.wait_until_ready()
        self.line.wait_until_caught_up()

    def stop(self) -> None:
        self.line.stop()

    def empty(self) -> None:
        """Nothing can be forgotten: it catches up when it starts."""


class Theirs:
    """A peer: its trigger, and its daemon in a process."""

    def __init__(self, ground: Ground, valkey: Valkey, found: Peer, rows: int) -> None:
        self._ground, self._peer = ground, found
        self._dbname = found.module.rpartition(".")[2]
        self.name, self.valkey, self.likes_backlog = found.name, valkey, bool(found.empty)
        self.dsn = ground.filled(self._dbname, rows=rows, users=rows)
        found.install(ground.server, self._dbname)
        ground.server.psql(WORKER)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = valkey.home / "peer.log"

    def start(self) -> None:
        dsn = make_conninfo(self.dsn, user="worker")
        command = [sys.executable, "-m", self._peer.module, dsn, self.valkey.url]
        with self._log.open("ab") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=Path.cwd())
        self._process = process
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            self.stop()
            raise RuntimeError(f"{self.name} did not start:\n{self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # what waits is not waited for
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def empty(self) -> None:
        if self._peer.empty:
            self._ground.server.psql(self._peer.empty, dbname=self._dbname)


@contextmanager
def running(contender: Contender) -> Iterator[None]:
    """Run it for as long as the block lasts, and let it forget what it did not get to."""
    contender.start()
    try:
        yield
    finally:
        contender.stop()
        contender.empty()


@contextmanager
def contenders(ground: Ground, names: Sequence[str], *, rows: int = ROWS) -> Iterator[list[Contender]]:
    """Make creditsd and the named peers; whoever cannot be had is told of, and left out."""
    with ExitStack() as ends:
        made: list[Contender] = [Ours(ground, ends.enter_context(Valkey()), "ours", rows)]
        for name in names:
            try:
                made.append(Theirs(ground, ends.enter_context(Valkey()), peer(name), rows))
            except (Missing, ServerError, RuntimeError) as why:
                ground.say(f"{name} is left out: {why}")
        yield made
        ground.drop("ours", *names)


def presented() -> list[dict[str, str]]:
    """Tell of every peer what it is here, or why it is not."""
    said = []
    for name in NAMES:
        try:
            found = peer(name)
            said.append({"peer": found.name, "version": found.version(), "settings": found.settings})
        except Missing as why:
            said.append({"peer": name, "version": f"left out: {why}", "settings": ""})
    return said


__all__ = ["CREDITSD", "HANDWRITTEN", "ROWS", "Contender", "Ours", "Theirs", "contenders", "presented", "running"]
