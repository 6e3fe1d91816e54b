"""`creditsd doctor`: looks at everything the line depends on, and says of each what mends it. Changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress

from creditsd.admin.doctor import changes, doorbell, leader, receivers, rights, secrets, server, surface, table
from creditsd.admin.doctor.finding import Finding, failed
from creditsd.config.settings import Settings
from creditsd.domain.errors import CreditsdError
from creditsd.domain.owner import Owner
from creditsd.postgres.connections import Connection, connected
from creditsd.schema.owner import owner_of

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
    ("changes", changes.examine),
    ("sinks", receivers.examine_conditions),
)


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Yield one finding after another; what cannot be looked at is a finding too, and keeps nothing else from it."""
    for each in [*secrets.examine(settings), *await surface.examine(settings)]:
        yield each
    async with AsyncExitStack() as stack:
        connection = await _connected(stack, settings)
        owner = None if isinstance(connection, CreditsdError) else await _owner(connection)
        async for each in receivers.examine(settings, owner):
            yield each
        if isinstance(connection, CreditsdError):
            yield failed("server", connection)
            return
        for about, check in OF_THE_DATABASE:
            for each in await _found(about, check, connection, settings):
                yield each
        if await table.readable(connection, settings):
            for about, check in OF_THE_SCHEMA:
                for each in await _found(about, check, connection, settings):
                    yield each


async def _connected(stack: AsyncExitStack, settings: Settings) -> Connection | CreditsdError:
    try:
        opened = connected(settings.dsn, purpose="doctor", schema=settings.schema, shared=settings.shared)
        return await stack.enter_async_context(opened)
    except CreditsdError as error:
        return error


async def _owner(connection: Connection) -> Owner | None:
    """Return the installation that sinks would be written to by; None where nothing is installed, or nobody tells."""
    with suppress(CreditsdError):
        return await owner_of(connection)
    return None


async def _found(about: str, check: Check, connection: Connection, settings: Settings) -> Sequence[Finding]:
    try:
        return await check(connection, settings)
    except CreditsdError as error:
        return [failed(about, error)]
