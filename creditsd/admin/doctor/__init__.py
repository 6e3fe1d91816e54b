"""`creditsd doctor`: looks at everything the line depends on, and says of each what mends it. Changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from creditsd.admin.doctor import doorbell, leader, receivers, rights, secrets, server, surface, table
from creditsd.admin.doctor.finding import Finding, failed
from creditsd.config.settings import Settings
from creditsd.domain.errors import CreditsdError
from creditsd.postgres.connections import Connection, connected

__all__ = ["Finding", "examine"]

Check = Callable[[Connection, Settings], Awaitable[Sequence[Finding]]]

OF_THE_DATABASE: Sequence[tuple[str, Check]] = (
    ("server", server.examine),
    ("connections", server.examine_connections),
    ("doorbell", doorbell.examine),
    ("table", table.examine),
)
OF_THE_SCHEMA: Sequence[tuple[str, Check]] = (
    ("rows", table.examine_rows),
    ("publications", table.examine_publications),
    ("rights", rights.examine),
    ("leader", leader.examine),
    ("sinks", receivers.examine_conditions),
)


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Yield one finding after another; what cannot be looked at is a finding too, and keeps nothing else from it."""
    for each in [*secrets.examine(settings), *await surface.examine(settings)]:
        yield each
    async for each in receivers.examine(settings):
        yield each
    async with AsyncExitStack() as stack:
        try:
            opened = connected(settings.dsn, purpose="doctor", schema=settings.schema, shared=settings.shared)
            connection = await stack.enter_async_context(opened)
        except CreditsdError as error:
            yield failed("server", error)
            return
        for about, check in OF_THE_DATABASE:
            for each in await _found(about, check, connection, settings):
                yield each
        if await table.readable(connection, settings):
            for about, check in OF_THE_SCHEMA:
                for each in await _found(about, check, connection, settings):
                    yield each


async def _found(about: str, check: Check, connection: Connection, settings: Settings) -> Sequence[Finding]:
    try:
        return await check(connection, settings)
    except CreditsdError as error:
        return [failed(about, error)]
