"""A real PgBouncer in front of one of the tests' servers, and a look at every session it lends."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.workshop import Account, ServerError, free_port, pgbouncer_program, workshop

Connection = psycopg.Connection[tuple[Any, ...]]

# What the pooler itself keeps apart for each of its clients, and what a transaction of the look's own is.
_OF_CLIENTS = ("application_name", "transaction_isolation", "transaction_read_only", "transaction_deferrable")


@dataclass(frozen=True, slots=True)
class Lent:
    """A session that the pooler lends: what is set in it, and what somebody has left there."""

    pid: int
    settings: dict[str, str]
    locks: list[tuple[Any, ...]]
    channels: list[str]
    statements: int


class PgBouncer:
    """A pooler of our own on 127.0.0.1, which trusts everyone and connects as the user of the DSN."""

    def __init__(self, dsn: str, *, pool_mode: str = "transaction", pool_size: int = 3, **settings: object) -> None:
        binary, account = pgbouncer_program(), Account.needed()
        self._home = workshop().place("pgbouncer", account)
        self.port, self.pool_size = free_port(), pool_size
        there = {key: value for key, value in conninfo_to_dict(dsn).items() if value is not None}
        self._database = str(there.pop("dbname"))
        target = " ".join(f"{key}={there[key]}" for key in ("host", "port", "user", "password") if key in there)
        wanted: dict[str, object] = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": pool_mode,
            "default_pool_size": pool_size,
            "max_client_conn": 500,
            **settings,
        }
        lines = ["[databases]", f"* = {target}", "[pgbouncer]", *(f"{key} = {value}" for key, value in wanted.items())]
        file = self._home / "pgbouncer.ini"
        file.write_text("\n".join(lines) + "\n")
        file.chmod(0o644)
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, file],
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else [],
            )
        (self._home / "server.pid").write_text(f"{self._process.pid}\n")

    def __enter__(self) -> Self:
        workshop().opened(self)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.connect().close()
                return self
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = (self._home / "log").read_text(errors="replace")[-3000:]
                    raise ServerError(f"PgBouncer did not start ({error}):\n{said}") from error
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    @property
    def dsn(self) -> str:
        """The database, through the pooler."""
        return make_conninfo(host="127.0.0.1", port=self.port, user="postgres", dbname=self._database)

    def connect(self) -> Connection:
        """Connect as an application does that knows of poolers: autocommit, nothing prepared."""
        return psycopg.connect(self.dsn, autocommit=True, prepare_threshold=None)

    def kill(self) -> None:
        """End the pooler at once."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    @contextlib.contextmanager
    def every_session(self) -> Iterator[list[Connection]]:
        """Take all the sessions there are, each in a transaction, until the end of the block."""
        with ExitStack() as stack:
            taken = [stack.enter_context(contextlib.closing(self.connect())) for _ in range(self.pool_size)]
            for each in taken:
                each.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
            yield taken
            for each in taken:  # one whose client goes within a transaction is closed by the pooler
                each.execute("COMMIT")

    def left(self, *statements: str) -> None:
        """Run statements in every session, as an application does that leaves its settings behind."""
        with self.every_session() as sessions:
            for each in sessions:
                for statement in statements:
                    each.execute(statement.encode())

    def look(self) -> list[Lent]:
        """Look at every session while nobody has it: what holds then was left there."""
        with self.every_session() as sessions:
            return sorted((_look(each) for each in sessions), key=lambda lent: lent.pid)


def _look(session: Connection) -> Lent:
    ((pid,),) = session.execute("SELECT pg_backend_pid()").fetchall()
    settings = session.execute("SELECT name, setting FROM pg_settings WHERE name NOT LIKE 'plpgsql.%'").fetchall()
    locks = session.execute(
        "SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    ).fetchall()
    channels = session.execute("SELECT pg_listening_channels()").fetchall()
    ((statements,),) = session.execute("SELECT count(*) FROM pg_prepared_statements").fetchall()
    kept = {name: value for name, value in settings if name not in _OF_CLIENTS}
    return Lent(pid, kept, locks, [channel for (channel,) in channels], statements)
