"""Sessions that are kept from one query of a test to its next: to open one costs more than most of them do."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

Session = psycopg.Connection[tuple[Any, ...]]


class Sessions:
    """At most one idle session for each connection string; each is lent as if it had just been opened."""

    def __init__(self) -> None:
        self._idle: dict[str, Session] = {}

    @contextlib.contextmanager
    def lent(self, dsn: str) -> Iterator[Session]:
        """Lend a session with autocommit, in which nothing is set, locked or prepared; two at once are two."""
        session = self._idle.pop(dsn, None)
        if session is not None and not _quiet(session):
            session.close()
            session = None
        if session is None:
            session = psycopg.connect(dsn, autocommit=True, prepare_threshold=None)
        try:
            yield session
        except BaseException:
            session.close()
            raise
        if not _restored(session) or self._idle.setdefault(dsn, session) is not session:
            session.close()

    def pids(self) -> list[int]:
        """Return the processes that serve the idle ones."""
        return [session.info.backend_pid for session in list(self._idle.values())]

    def close(self, dbname: str | None = None) -> None:
        """Close those to a database, or all."""
        for dsn, session in list(self._idle.items()):
            if dbname is None or session.info.dbname == dbname:
                self._idle.pop(dsn, session).close()


def _quiet(session: Session) -> bool:
    """Whether the server has said nothing meanwhile, as it does when it ends a session."""
    return not session.closed and not select.select([session], [], [], 0)[0]


def _restored(session: Session) -> bool:
    if session.closed or session.info.transaction_status != TransactionStatus.IDLE:
        return False
    try:
        session.execute("DISCARD ALL")
    except psycopg.Error:
        return False
    return True
