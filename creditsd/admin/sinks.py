"""The sinks as a person turns them: which there are, a test message, pause and resume, everything again, gone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from creditsd.admin.leader_lock import led
from creditsd.admin.sink_condition import COUNTED, SinkFacts, State, judge
from creditsd.admin.sink_names import check_sink
from creditsd.config.redact import redact_dsn
from creditsd.config.settings import Settings
from creditsd.domain.errors import InputError, NotAgreed, SinkRejected, SinkUnavailable
from creditsd.domain.events import Event
from creditsd.domain.total import Total
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, connected, read_as, row, rows
from creditsd.schema import install as schema
from creditsd.schema.owner import owner_of
from creditsd.sinks import Choosing, Forgetting, Sink, make, open_for, told_only_of

# Whose total a test message is: nobody's, but of the type that consumers expect.
NOBODY = dict.fromkeys(("smallint", "integer", "bigint", "numeric"), "0") | {"uuid": str(UUID(int=0))}
NOBODY_ELSE = "creditsd-test"


@dataclass(frozen=True, slots=True)
class ListedSink:
    """One sink: configured, known to the database, or both. What waits and what was refused are counted up to a limit.

    `said` is its condition in words, `hint` the command that helps.
    """

    name: str
    scheme: str | None
    state: State
    said: str = ""
    hint: str = ""
    queue: int = 0
    delivered: int = 0
    refused: int = 0
    dead: int = 0
    paused_at: datetime | None = None
    disabled_reason: str | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None
    cursor: int = 0
    saved_at: datetime | None = None


class Live(NamedTuple):
    """What the daemon that leads knows of its own sink; `flowing`: nothing waits there for more than a moment."""

    cursor: int
    flowing: bool
    error: str | None


class _Known(NamedTuple):
    """What the database knows of a sink."""

    name: str
    queue: int
    delivered: int
    refused: int
    dead: int
    paused_at: datetime | None
    disabled_reason: str | None
    last_error: str | None
    last_error_at: datetime | None
    cursor: int
    saved_at: datetime
    refusing: bool
    served: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a test message that arrived; `left` says what of it stays there."""

    user_id: str
    seconds: float
    left: str


class SinkControl:
    """Every sink there is. What is decided here the publishers learn at once."""

    def __init__(self, connection: Connection, settings: Settings, user_id_type: str) -> None:
        self._connection = connection
        self._settings = settings
        self._user_id_type = user_id_type

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings) -> AsyncIterator[SinkControl]:
        """Connect for as long as the block lasts. Raises SchemaError where the database is not as the settings say."""
        async with connected(
            settings.dsn, purpose="sinks", schema=settings.schema, shared=settings.shared
        ) as connection:
            yield cls(connection, settings, (await schema.missing(connection, settings)).user_id_type)

    async def list(self, *, counted: int = COUNTED) -> Sequence[ListedSink]:
        """List the configured sinks in their order, then those that only the database still knows."""
        return await list_sinks(self._connection, self._settings, counted=counted)

    async def pause(self, name: str) -> None:
        """Deliver nothing there from now on; what changes meanwhile waits, newest only."""
        await self._turn(name, "queries/sink_paused")

    async def resume(self, name: str) -> None:
        """Deliver there again, whoever or whatever stopped it."""
        await self._turn(name, "queries/sink_resumed")

    async def served(self, name: str) -> bool:
        """Whether a sink is configured here, or delivered to by the daemon that leads."""
        return any(each.name == name and each.state != "not configured" for each in await self.list(counted=1))

    async def replay(self, name: str, user_id: str | None = None) -> bool:
        """Tell a sink everything again, or one user's newest total; False where nothing is stored of that user.

        What it holds at the same or a higher version it leaves as it is: after a restore, everyone needs a new version.
        Raises InputError for a sink or an id that is none.
        """
        await check_sink(self._connection, self._settings, name)
        query, values = "queries/sink_replayed", {"name": name}
        if user_id is not None:
            self._check_told_of_totals(name)
            query, values = "queries/delivery_replayed", {"name": name, "user_id": user_id}
        with read_as(self._user_id_type, user_id or ""):
            found = await row(self._connection, sql_files.sql(query), values)
        await row(self._connection, sql_files.sql("queries/sinks_rung"))
        return found is not None or user_id is None

    def _check_told_of_totals(self, name: str) -> None:
        """Raise InputError for a sink that is told only of what happens to users: that is told once."""
        if name in self._settings.sink_names:
            events = ", ".join(told_only_of(make(self._settings.sink(name))))
            if events:
                raise InputError(
                    f"sink {name} is told of no totals, only of {events}: there is nothing to tell it again"
                )

    async def remove(self, name: str, *, agreed: bool = False) -> int:
        """Forget a sink that is no longer configured; return how many refused deliveries went with it.

        Raises InputError for a sink that is still delivered to, which would be told everything anew, or that is none;
        NotAgreed where no daemon leads that could say so, unless a person has `agreed`.
        """
        if name in self._settings.sink_names:
            raise InputError(
                f"sink {name} is configured: take it out of the settings, reload the daemon, then remove it"
            )
        await check_sink(self._connection, self._settings, name)
        if not agreed and not await led(self._connection):
            raise NotAgreed(
                f"no daemon leads, so nobody can say whether one still has sink {name} in its settings, which would be "
                "told everything anew"
            )
        found = await row(self._connection, sql_files.sql("queries/sink_removed"), {"name": name})
        if found is None:
            raise InputError(
                f"sink {name} is delivered to by the daemon that leads: take it out of its settings, reload it, "
                "then remove it"
            )
        return int(found[0])

    async def test(self, name: str) -> Trial:
        """Send one total of nobody's through the sink, and take it back where that can be done.

        Its version is 0, so nobody who keeps the higher version takes it for news; its cause is `test`. Raises
        SinkUnavailable or SinkRejected.
        """
        sink, began = make(self._settings.sink(name)), time.monotonic()
        user_id = NOBODY.get(self._user_id_type, NOBODY_ELSE)
        try:
            await open_for(await owner_of(self._connection), sink)
            refused = await sink.deliver([_message(user_id, sink)])
            seconds = time.monotonic() - began
            if refused:
                raise SinkRejected(f"sink {name} refused the test message: {refused[0].reason}")
            return Trial(user_id, seconds, await _taken_back(sink, user_id))
        finally:
            with contextlib.suppress(SinkUnavailable):
                await sink.close()

    async def _turn(self, name: str, query: str) -> None:
        await check_sink(self._connection, self._settings, name)
        await row(self._connection, sql_files.sql(query), {"name": name})
        await row(self._connection, sql_files.sql("queries/sinks_rung"))


async def list_sinks(
    connection: Connection, settings: Settings, live: Mapping[str, Live] | None = None, *, counted: int = COUNTED
) -> Sequence[ListedSink]:
    """List the configured sinks in their order, then those that only the database still knows.

    `live` is what a daemon that leads knows of its own sinks; the database hears of that once a second.
    """
    schemes = {each.name: each.scheme for each in settings.sinks}
    found = await rows(connection, sql_files.sql("queries/sink_states"), {"limit": counted})
    known = {each.name: each for each in (_Known(*values) for values in found)}
    names = dict.fromkeys([*schemes, *known])
    live, somebody_leads = live or {}, await led(connection)
    return [
        _listed(name, schemes.get(name), known.get(name), live.get(name), counted, somebody_leads=somebody_leads)
        for name in names
    ]


def _listed(
    name: str, scheme: str | None, known: _Known | None, live: Live | None, counted: int, *, somebody_leads: bool
) -> ListedSink:
    configured = scheme is not None or live is not None
    if known is None:
        condition = judge(SinkFacts(name, configured=configured, registered=False))
        return ListedSink(name, scheme, condition.state, condition.said, condition.hint)
    if live is not None:
        halted = known.paused_at is not None or known.disabled_reason is not None or live.error is not None
        queue = 0 if live.flowing and not halted else known.queue
        known = known._replace(queue=queue, last_error=live.error, cursor=max(live.cursor, known.cursor))
    known = known._replace(disabled_reason=_shown(known.disabled_reason), last_error=_shown(known.last_error))
    condition = judge(
        SinkFacts(
            name,
            configured=configured,
            served=known.served or live is not None,
            led=somebody_leads,
            paused=known.paused_at is not None,
            disabled_reason=known.disabled_reason,
            error=known.last_error,
            refusing=known.refusing,
            queue=known.queue,
            refused=known.refused,
            dead=known.dead,
        ),
        counted=counted,
    )
    facts: dict[str, Any] = {
        key: value for key, value in known._asdict().items() if key in ListedSink.__slots__ and key != "name"
    }
    return ListedSink(name, scheme, condition.state, condition.said, condition.hint, **facts)


def _shown(said: str | None) -> str | None:
    return None if said is None else redact_dsn(said)


def _message(user_id: str, sink: Sink) -> Total:
    """Make a total of nobody's; a sink that tells of events gets the first of those it was asked for."""
    return Total(
        user_id=user_id,
        version=0,
        updated_at=datetime.now(UTC),
        credits=Decimal(0),
        membership_status="none",
        plan_type="none",
        can_buy=True,
        has_ever_had_subscription=False,
        subscription_id=None,
        membership="creditsd test",
        expires_at=None,
        cause="test",
        happened=(Event(sink.events[0], 0),) if isinstance(sink, Choosing) else None,
    )


async def _taken_back(sink: Sink, user_id: str) -> str:
    """Erase the message where the sink can; never a real total, should somebody bear this id."""
    if not isinstance(sink, Forgetting):
        return "it stays where it went"
    if await sink.held(user_id) not in (0, None):
        return "it changed nothing: a newer total is held"
    return "it was erased there" if await sink.forget(user_id) else "nothing of it is left there"
