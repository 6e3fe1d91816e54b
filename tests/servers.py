"""Real PostgreSQL servers for tests and benchmarks, private to the process that starts them; Valkey is beside this.

Every server lives below one temporary directory of this process and is its direct child. Whatever ends the
process (return, Ctrl-C, SIGKILL), a small reaper notices that its pipe closed, stops what still runs and
removes the directory.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.sessions import Sessions
from tests.valkey import Valkey
from tests.workshop import (
    Account,
    ServerError,
    alive,
    children,
    free_port,
    freeze,
    package_directory,
    reachable_binaries,
    versions,
    wait_until_gone,
    workshop,
)

__all__ = [
    "REFERENCE_TABLE",
    "SETTINGS",
    "Postgres",
    "Reachable",
    "ServerError",
    "Valkey",
    "alive",
    "free_port",
    "versions",
    "workshop",
]

REFERENCE_TABLE = """
CREATE TABLE public.user_credits (
    id bigserial PRIMARY KEY,
    user_id uuid,
    credits integer,
    status text,
    plan_type text,
    membership text,
    subscription_id text,
    expires_at timestamptz,
    created_at timestamptz DEFAULT now()
);
CREATE INDEX user_credits_user_id ON public.user_credits (user_id);
"""

SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "log_min_messages": "log",
    "timezone": "UTC",
}


def _environment() -> dict[str, str]:
    """Our environment without libpq's variables, which would lead clients to somebody else's server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


class Reachable:
    """What can be done with any PostgreSQL server we may create databases in, whoever started it."""

    def __init__(self, conninfo: str, bindir: Path | None) -> None:
        self._conninfo = conninfo
        self._bindir = bindir
        self.sessions = Sessions()

    def dsn(self, dbname: str = "postgres", **params: str | int) -> str:
        """Name a database of this server as a libpq connection string."""
        return make_conninfo(self._conninfo, dbname=dbname, **params)

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """Connect with autocommit."""
        return psycopg.connect(self.dsn(dbname), autocommit=True)

    @functools.cached_property
    def version(self) -> int:
        """The major version of the server."""
        with self.sessions.lent(self._conninfo) as connection:
            return connection.info.server_version // 10000

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database and return its connection string."""
        self.sessions.close(template)
        with self.sessions.lent(self._conninfo) as connection:
            # Copying the files takes a quarter of the time that logging every page does, where nothing is flushed.
            strategy = sql.SQL(" STRATEGY FILE_COPY" if connection.info.server_version >= 150000 else "")
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}{}")
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template), strategy))
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending whoever is still connected to it. Not there: nothing happens."""
        self.sessions.close(name)
        with self.sessions.lent(self._conninfo) as connection:
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(statement.format(sql.Identifier(name)))

    def connections(self, dbname: str) -> list[str]:
        """Describe the clients connected to a database, but for those that are kept for `Database.run`."""
        query = """
            SELECT format('%%s %%s [%%s] %%s', pid, application_name, state, query)
            FROM pg_stat_activity
            WHERE datname = %s AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND pid <> ALL (%s)
        """
        with self.sessions.lent(self._conninfo) as connection:
            return [str(row[0]) for row in connection.execute(query, (dbname, self.sessions.pids()))]

    def psql(self, script: str, dbname: str = "postgres") -> str:
        """Run a script as a person would, stop at its first error, and return what it printed, unaligned."""
        return self.run("psql", "-X", "-qAt", "-v", "ON_ERROR_STOP=1", "-f", "-", dbname=dbname, stdin=script)

    def pg_dump(self, *args: str, dbname: str = "postgres") -> str:
        """Dump a database as SQL, without the random key of `\\restrict` that newer versions add."""
        text = self.run("pg_dump", *args, dbname=dbname)
        return re.sub(r"^\\(un)?restrict .*\n", "", text, flags=re.MULTILINE)

    def pgbench(self, *args: str, dbname: str = "postgres") -> str:
        """Run pgbench and return its report."""
        return self.run("pgbench", *args, dbname=dbname)

    def run(self, program: str, *args: str, dbname: str, stdin: str | None = None) -> str:
        """Run one of PostgreSQL's client programs against a database and return its standard output."""
        if self._bindir is None:
            raise ServerError(f"no {program} is installed beside this server")
        # The option is -d in all of them but pgbench, where it meant "debug" until 18.
        target = [self.dsn(dbname)] if program == "pgbench" else ["-d", self.dsn(dbname)]
        done = subprocess.run(
            [self._bindir / program, *args, *target],
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            env=_environment(),
        )
        if done.returncode != 0:
            raise ServerError(f"{program} exited with {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout


class Postgres(Reachable):
    """A PostgreSQL server of our own, on 127.0.0.1 and a unix socket, trusting everyone."""

    def __init__(
        self,
        bindir: Path | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        primary: Postgres | None = None,
        movable_clock: bool = False,
    ) -> None:
        account = Account.needed()
        origin = bindir or next(iter(versions().values()))
        self._account = account
        self._home = workshop().place("pg", account)
        self._data = self._home / "data"
        self._server_bindir = reachable_binaries(origin)
        self._process: subprocess.Popen[bytes] | None = None
        self.settings = {**SETTINGS, **(settings or {})}
        self._clock = self._home / "clock" if movable_clock else None
        self.set_clock(0)
        self.host, self.port, self.socket_directory = "127.0.0.1", free_port(), self._home
        super().__init__(make_conninfo(host=self.host, port=self.port, user="postgres", dbname="postgres"), origin)
        data = ("-D", str(self._data), "--no-sync")
        if primary is None:
            flags = ("--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C")
            self._as_account("initdb", *data, *flags)
        else:
            flags = ("--write-recovery-conf", "--checkpoint=fast", "-d", primary.dsn())
            self._as_account("pg_basebackup", *data, *flags)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        return self._running().pid

    @property
    def log(self) -> str:
        """What the server has logged since it was made."""
        path = self._home / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> Self:
        """Start the server and return when it answers queries."""
        command: list[str | Path] = [self._server_bindir / "postgres", "-D", self._data, "-p", str(self.port)]
        command += ["-k", self.socket_directory, "-h", self.host]
        for name, value in self.settings.items():
            command += ["-c", f"{name}={value}"]
        with (self._home / "log").open("ab") as log:
            self._process = self._spawn(command, stdout=log)
        workshop().opened(self)
        self._wait_until_it_answers()
        return self

    def admit(self, network: str) -> None:
        """Trust everyone who comes from a network, too."""
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {network} trust\n")
        with self.connect() as connection:
            connection.execute("SELECT pg_reload_conf()")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server in pg_ctl's sense: `smart`, `fast` or `immediate`."""
        self.sessions.close()
        process = self._process
        if process is None:
            return
        signals = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        process.send_signal(signals[mode])
        process.wait(timeout=60)
        self._process = None

    def restart(self, mode: str = "fast") -> None:
        """Stop and start again on the same port."""
        self.stop(mode)
        self.start()

    def kill9(self) -> None:
        """End the postmaster as a crash would, and return when none of its children is left."""
        process = self._running()
        freeze(process)  # no child may be born between looking and killing
        orphans = children(process.pid)
        process.kill()
        process.wait()
        self._process = None
        wait_until_gone(orphans, patience_seconds=5)
        for child in orphans:
            with contextlib.suppress(ProcessLookupError):
                if alive(child):
                    os.kill(child, signal.SIGKILL)
        wait_until_gone(orphans, patience_seconds=5)

    def kill(self) -> None:
        """End the server as fast as can be done without leaving children behind."""
        self.stop("immediate")

    def remove(self) -> None:
        """Stop the server and delete its data."""
        self.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    def standby(self, settings: Mapping[str, str] | None = None, *, movable_clock: bool = False) -> Postgres:
        """Make a read-only replica that follows this server; the caller starts and removes it."""
        more = {**self.settings, **(settings or {})}
        return Postgres(self._bindir, more, primary=self, movable_clock=movable_clock)

    def cut_off(self) -> None:
        """As a standby, receive nothing from the primary any more: what it commits from now on is lost with it."""
        with self.connect() as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
            while connection.execute("SELECT FROM pg_stat_wal_receiver").fetchone() is not None:
                time.sleep(0.02)

    def set_clock(self, ahead_seconds: int) -> None:
        """Move the server's clock, where it was made to be movable, to so many seconds ahead of ours."""
        if self._clock is not None:
            moved = self._clock.with_suffix(".new")
            moved.write_text(f"{ahead_seconds:+d}\n")
            moved.chmod(0o644)
            moved.rename(self._clock)

    def promote(self) -> None:
        """Turn a standby into a primary."""
        with self.connect() as connection:
            connection.execute("SELECT pg_promote()")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError("the server is not running")
        return self._process

    def _spawn(self, command: Sequence[str | Path], stdout: IO[bytes] | int) -> subprocess.Popen[bytes]:
        account = self._account
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=self._home,
            env=_environment() | self._time(),
            start_new_session=True,  # Ctrl-C is ours: we stop servers in order
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )

    def _time(self) -> dict[str, str]:
        """Return what makes the system's calendar time, and that alone, the one of our file."""
        if self._clock is None:
            return {}
        package = package_directory("libfaketime")
        if package is None:
            raise ServerError("no clock to move: pip install libfaketime")
        library = self._home / "libfaketime.so"
        if not library.exists():
            shutil.copy(package / "vendor" / "libfaketime" / "src" / "libfaketime.so.1", library)
            library.chmod(0o755)
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def _as_account(self, program: str, *args: str) -> None:
        process = self._spawn([self._server_bindir / program, *args], stdout=subprocess.PIPE)
        output, _ = process.communicate()
        if process.returncode != 0:
            text = output.decode(errors="replace")
            raise ServerError(f"{program} exited with {process.returncode}: {text}")

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self._conninfo, connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                ended = self._running().poll()
                if ended is not None or time.monotonic() > deadline:
                    self._process = None if ended is not None else self._process
                    raise ServerError(f"PostgreSQL did not start ({error}):\n{self.log[-3000:]}") from error
                time.sleep(0.02)
