"""Bounds how long closing a connection may take."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

CLOSE_SECONDS = 2.0


@contextlib.asynccontextmanager
async def bounded(*failures: type[BaseException]) -> AsyncIterator[None]:
    """Close within 2 s, or give up: a server that does not let go, or fails in these ways, does not matter any more."""
    with contextlib.suppress(TimeoutError, *failures):
        async with asyncio.timeout(CLOSE_SECONDS):
            yield
