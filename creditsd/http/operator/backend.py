"""Answers the operator's page from the daemon's memory and from bounded queries."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, Self

from creditsd import __version__
from creditsd.admin.failed_deliveries import FailedDeliveries, FailedDelivery
from creditsd.admin.inspect import Inspector, Status
from creditsd.admin.sentence import sentence
from creditsd.admin.sinks import Live, SinkControl
from creditsd.config.redact import redact_dsn
from creditsd.config.settings import Settings
from creditsd.domain.errors import DatabaseUnavailable, SchemaError
from creditsd.domain.total import encode
from creditsd.http.operator import Timings, Turn
from creditsd.metrics.rates import Rates
from creditsd.postgres import budget, connections
from creditsd.postgres.connections import Connection, borrowed
from creditsd.schema import install as schema
from creditsd.schema.install import Installation

LOOK_SHARE = 10  # looking at the database takes at most one part in so many of the time
COUNTED = 10_000  # what waits is counted up to here


class PublisherView(Protocol):
    """What the page shows of a publisher."""

    @property
    def name(self) -> str:
        """What the sink is called."""

    @property
    def cursor(self) -> int:
        """The version up to which everything has arrived."""

    @property
    def failure(self) -> str | None:
        """Why the sink took nothing when it was last tried, or None."""

    @property
    def behind(self) -> bool:
        """Whether something that is stored has not arrived."""


class Backend:
    """Queries the database once a second at most, however many viewers there are, and not at all without one."""

    def __init__(
        self,
        settings: Settings,
        rates: Rates,
        publishers: Iterable[PublisherView],
        health: Callable[[], Mapping[str, object]],
        timings: Timings | None = None,
    ) -> None:
        self._settings = settings
        self._timings = timings or Timings()
        self._pool = connections.pool(
            settings.dsn, purpose="operator", schema=settings.schema, max_size=budget.OPERATOR, shared=settings.shared
        )
        self._rates = rates
        self._publishers = publishers
        self._health = health
        self._installation: Installation | None = None
        self._looking = asyncio.Lock()
        self._look: dict[str, Any] = {}
        self._seen: Status | None = None
        self._next_look = 0.0
        self._behind: set[str] = set()  # at the last look
        self._state = b""
        self._state_at = 0.0

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    def follow(self, settings: Settings) -> None:
        """Take other settings: which sinks there are."""
        self._settings = settings

    async def state(self) -> bytes:
        """Return the state of everything as JSON, the same bytes for whoever asks within a second."""
        async with self._looking:
            began = time.monotonic()
            if began - self._state_at >= self._timings.look_seconds * 0.9:
                if began >= self._next_look:
                    self._look = await self._looked()
                    took = time.monotonic() - began
                    self._next_look = began + max(self._timings.look_seconds * 0.9, took * LOOK_SHARE)
                known = self._known()
                self._state = encode({**known, **self._look, "sentence": self._sentence(known["state"])})
                self._state_at = began
        return self._state

    async def explain(self, user_id: str) -> dict[str, Any]:
        """Say of each of a user's rows whether it counts, and why; the total; and what each sink has."""
        async with self._asking(self._timings.patience_seconds) as (connection, installation):
            inspector = Inspector(connection, self._settings, installation)
            return (await inspector.explain(user_id, self._live(lambda own: not own.behind))).document()

    async def failed_deliveries(self, sink: str | None, *, dead: bool, limit: int) -> Sequence[FailedDelivery]:
        """List refused deliveries, those tried next first, the dead last."""
        async with self._asking(self._timings.patience_seconds) as (connection, installation):
            failed = FailedDeliveries(connection, self._settings, installation.user_id_type)
            return await failed.list(sink, dead=dead, limit=limit)

    async def retry(self, sink: str, user_id: str | None) -> int:
        """Have one user's or everybody's tried again now; return how many."""
        async with self._asking(self._timings.patience_seconds) as (connection, installation):
            return await FailedDeliveries(connection, self._settings, installation.user_id_type).retry(sink, user_id)

    async def drop(self, sink: str, user_id: str | None) -> int:
        """Give up one user's or everybody's; return how many."""
        async with self._asking(self._timings.patience_seconds) as (connection, installation):
            return await FailedDeliveries(connection, self._settings, installation.user_id_type).drop(sink, user_id)

    async def turn(self, sink: str, how: Turn) -> Mapping[str, Any]:
        """Pause, resume, test or replay a sink; say what came of it. A test raises SinkUnavailable or SinkRejected."""
        async with self._asking(self._timings.patience_seconds) as (connection, installation):
            control = SinkControl(connection, self._settings, installation.user_id_type)
            match how:
                case "pause":
                    await control.pause(sink)
                case "resume":
                    await control.resume(sink)
                case "replay":
                    await control.replay(sink)
        # The test asks the sink and not the database: it has the sink's own time.
        return dataclasses.asdict(await control.test(sink)) if how == "test" else {}

    def _known(self) -> dict[str, Any]:
        """Return what is known without a query."""
        health = self._health()
        return {
            "at": datetime.now(UTC),
            "creditsd": __version__,
            "state": health["state"],
            "doorbell": health["doorbell"],
            "hindrance": health["problem"],
            "rates": self._rates.history(),
        }

    async def _looked(self) -> dict[str, Any]:
        """Query the state of the line and its sinks; where that fails, return the last answer and the problem."""
        try:
            async with self._asking(self._timings.state_patience_seconds) as (connection, installation):
                inspector = Inspector(connection, self._settings, installation)
                status = await inspector.status(self._live(self._flowing), counted=COUNTED)
        except (DatabaseUnavailable, SchemaError) as error:
            return {**self._look, "problem": redact_dsn(str(error))}
        self._seen = status
        line = {key: value for key, value in dataclasses.asdict(status).items() if key not in ("sinks", "problems")}
        return {
            "problem": None,
            "counted": COUNTED,
            "line": line,
            "sinks": [dataclasses.asdict(each) for each in status.sinks],
        }

    def _sentence(self, state: Any) -> str:
        """Say how all is, by the same rules as `creditsd status`."""
        health, seen = self._health(), self._seen
        if self._look.get("problem"):
            return f"PostgreSQL does not answer: {self._look['problem']}"
        return sentence(
            mend=str(health["problem"]) if health["problem"] and state != "disconnected" else "",
            role=_role(state, seen),
            sinks=seen.sinks if seen is not None else (),
            set_aside=seen.set_aside if seen is not None else (),
            polling=health["doorbell"] == "polling",
        )

    def _live(self, flowing: Callable[[PublisherView], bool]) -> Mapping[str, Live] | None:
        """Return what the leader knows of its sinks: better than the database, where it is saved once a second."""
        if self._health()["state"] not in ("leading", "backfilling"):
            return None
        return {each.name: Live(each.cursor, flowing(each), each.failure) for each in self._publishers}

    def _flowing(self, own: PublisherView) -> bool:
        """Tell whether a sink is behind for no more than a moment: one under load is not, as long as it flows."""
        late = own.behind and time.time() - own.cursor / 1_000_000 > self._timings.flowing_seconds
        flowing = not late or own.name not in self._behind
        (self._behind.add if late else self._behind.discard)(own.name)
        return flowing

    @asynccontextmanager
    async def _asking(self, seconds: float) -> AsyncIterator[tuple[Connection, Installation]]:
        """Borrow a connection for at most so many seconds, with what is installed. Raises DatabaseUnavailable."""
        try:
            async with asyncio.timeout(seconds), borrowed(self._pool) as connection:
                if self._installation is None:
                    self._installation = await schema.usable(connection, self._settings)
                yield connection, self._installation
        except TimeoutError:
            raise DatabaseUnavailable(f"PostgreSQL did not answer within {seconds:g} s") from None
        except SchemaError:
            self._installation = None
            raise


def _role(state: str, status: Status | None) -> str:
    """Say what this daemon does, where that is not leading."""
    match state:
        case "leading":
            return ""
        case "backfilling":
            users = status.resynced_users if status is not None else None
            return f"Everyone is being recomputed{f': {users} users are done' if users else ''}."
        case "standby" if status is not None and status.leader_pid is None:
            return "This daemon stands by. Nobody leads."
        case "standby" if status is not None:
            return f"This daemon stands by. Another leads, connected from {status.leader_address or 'here'}."
        case _:
            return _ROLES.get(state, f"The daemon is {state}.")


_ROLES = {
    "starting": "The daemon is starting.",
    "standby": "This daemon stands by.",
    "disconnected": "The daemon has no connection to PostgreSQL: the line waits, and nothing is lost.",
    "stopping": "The daemon is ending.",
}
