"""The sinks: whether each can be reached from here, and how each is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from creditsd.admin.doctor.finding import Finding, failed, good, note, problem
from creditsd.admin.sinks import list_sinks
from creditsd.config.settings import Settings, SinkSettings
from creditsd.domain.errors import CreditsdError, SinkUnavailable
from creditsd.domain.owner import Owner
from creditsd.postgres.connections import Connection
from creditsd.sinks import Doubtful, Sink, Untried, make, open_for

OPEN_SECONDS = 10.0

# How a sink is while nobody need do anything.
WELL = ("current", "new", "behind")


async def examine(settings: Settings, owner: Owner | None) -> AsyncIterator[Finding]:
    """Open every sink as the daemon does, and close it again; nothing is delivered.

    Where the installation is not known, whether another one writes there is not looked for.
    """
    if not settings.sinks:
        yield note("sinks", "none is configured: totals are published to nobody", "set CREDITSD_SINKS")
    for each in settings.sinks:
        for found in await _opened(each, owner):
            yield found


async def examine_conditions(connection: Connection, settings: Settings) -> Sequence[Finding]:
    """Say of each sink that is not well what helps."""
    return [
        problem(f"sink {each.name}", f"{each.state}: {each.said}", each.hint)
        for each in await list_sinks(connection, settings)
        if each.state not in WELL
    ]


async def _opened(settings: SinkSettings, owner: Owner | None) -> Sequence[Finding]:
    about = f"sink {settings.name}"
    try:
        sink = make(settings)
    except CreditsdError as error:
        return [failed(about, error)]
    found = await _tried(about, settings, sink, owner)
    doubts = sink.doubts if isinstance(sink, Doubtful) else []
    return [found, *(note(about, each) for each in doubts)]


async def _tried(about: str, settings: SinkSettings, sink: Sink, owner: Owner | None) -> Finding:
    if isinstance(sink, Untried):
        return note(about, sink.untried, f"creditsd sinks test {settings.name}")
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await (sink.open() if owner is None else open_for(owner, sink))
    except SinkUnavailable as error:
        return failed(about, error)
    except TimeoutError:
        hint = "is its address right, and nothing in the way?"
        return problem(about, f"it does not answer within {OPEN_SECONDS:g} s", hint)
    finally:
        with contextlib.suppress(SinkUnavailable):
            await sink.close()
    return good(about, "it can be reached")
