"""Judges, for a standby, whoever holds the leader's lock: a stranger must be named, a frozen leader must be ended."""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog

from creditsd.daemon.state import DaemonState
from creditsd.domain.errors import SchemaError
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, row, rows
from creditsd.postgres.session import schema_of

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Timings:
    """After how long a stranger is named, and a leader that does nothing is ended.

    A leader's session does something at each heartbeat, every ten seconds, or at each poll where those are rarer:
    then both are longer by the time between two polls. Measured by our own clock, from look to
    look: the server's may jump, and a standby that was frozen itself has seen nothing in between.
    """

    stranger_seconds: float = 2.0
    frozen_seconds: float = 30.0


class LeaderWatch:
    """Compares what is seen of the leader's session with the look before."""

    def __init__(self, state: DaemonState, timings: Timings, quiet_seconds: float) -> None:
        self._state = state
        self._timings = timings
        self._quiet_seconds = quiet_seconds  # for how long a leader may do nothing on purpose
        self._seen: tuple[object, ...] = ()
        self._since = 0.0

    async def look(self, session: Connection) -> None:
        """Look once; ends the leader's sessions where it has stood still for too long."""
        found = await row(session, sql_files.sql("queries/leader_seen"))
        if found is None:
            self._state.note("leader", "")
            return
        pid, role, application, changed, waits = found
        ours = str(application).startswith(f"{schema_of(session)} ")
        seen = (pid, changed, waits) if ours else (pid,)
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
            self._state.note("leader", "")
            return
        seconds = time.monotonic() - self._since
        if not ours and seconds >= self._timings.stranger_seconds:
            who = f"process {pid} (role {role}, {application or 'nameless'})"
            self._state.note("leader", f"{who} holds the leader's lock, and is no daemon of ours: end it")
        elif ours and waits and changed is not None and seconds >= self._timings.frozen_seconds + self._quiet_seconds:
            await self._end(session, pid, seconds)

    async def _end(self, session: Connection, pid: int, seconds: float) -> None:
        """End the sessions of a leader that stands still: its locks go with them, and it wakes as a standby."""
        log.warning("daemon.leader_frozen", process=pid, seconds=round(seconds))
        try:
            ended = await rows(session, sql_files.sql("queries/leader_ended"))
        except SchemaError as error:  # another role's
            self._state.note("leader", f"the leader stands still, and we may not end process {pid} ({error})")
            return
        log.info("daemon.leader_ended", processes=[each for each, _ in ended])
        self._seen = ()
