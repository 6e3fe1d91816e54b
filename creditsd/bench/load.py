"""Connections that write as an application does, each in a thread of its own, one write after the other."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import psycopg
from psycopg.pq import ExecStatus

from creditsd.postgres.connections import CONNECT_SECONDS, translated
from creditsd.postgres.session import SEARCH_PATH

# Nobody else knows the rows, so only a server in trouble takes so long; it must not hold up the end.
_PATIENCE = "SET statement_timeout = '30s'"


@dataclass(frozen=True, slots=True)
class Slice:
    """A while of writing: how long each write took, and how much of a processor our own side needed."""

    seconds: float
    taken_seconds: list[float]
    processor_share: float

    @property
    def rate(self) -> float:
        """Return the writes a second, of all clients together."""
        return len(self.taken_seconds) / self.seconds


class WriteLoad:
    """So many clients. Each statement is prepared once, and takes the id of a random row."""

    def __init__(self, dsn: str, clients: int, statements: Mapping[str, str], rows: int) -> None:
        self._dsn = dsn
        self._clients = clients
        self._statements = statements
        self._rows = rows
        self._stopped = threading.Event()
        self._threads = ThreadPoolExecutor(clients)
        self._connections: list[psycopg.Connection[tuple[object, ...]]] = []

    def __enter__(self) -> Self:
        try:
            with translated():
                for _ in range(self._clients):
                    self._connections.append(self._connect())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def write(self, statement: str, clients: int, seconds: float) -> Slice:
        """Write for a while with some of the clients. Blocks; to be called in a thread. Raises DatabaseUnavailable."""
        begun, busy = time.perf_counter(), time.process_time()
        name, deadline = statement.encode(), begun + seconds
        some = self._connections[:clients]
        taken = [each for one in self._threads.map(lambda c: self._write(c, name, deadline), some) for each in one]
        lasted = time.perf_counter() - begun
        return Slice(lasted, taken, (time.process_time() - busy) / lasted)

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        connection = psycopg.connect(
            self._dsn, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="creditsd bench writer"
        )
        connection.execute(f"{SEARCH_PATH}; {_PATIENCE}")
        for name, statement in self._statements.items():
            result = connection.pgconn.prepare(name.encode(), statement.encode())
            if result.status != ExecStatus.COMMAND_OK:
                raise psycopg.errors.error_from_result(result)
        return connection

    def _write(
        self, connection: psycopg.Connection[tuple[object, ...]], statement: bytes, deadline: float
    ) -> list[float]:
        """Go below the driver's cursors: what they cost us would hide what the triggers cost the server."""
        taken = []
        server, before = connection.pgconn, time.perf_counter()
        with translated():
            while before < deadline and not self._stopped.is_set():
                result = server.exec_prepared(statement, [b"%d" % random.randint(1, self._rows)])
                if result.status != ExecStatus.COMMAND_OK:
                    raise psycopg.errors.error_from_result(result)
                after = time.perf_counter()
                taken.append(after - before)
                before = after
        return taken

    def _close(self) -> None:
        """End, at the latest after the statements that are under way."""
        self._stopped.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for connection in self._connections:
            connection.close()
