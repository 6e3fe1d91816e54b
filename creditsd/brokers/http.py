"""HTTP endpoints that totals are posted to: the client's connections, what an answer says, and when to come again."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp

from creditsd import __version__
from creditsd.brokers.closing import bounded
from creditsd.config.printable import one_line

FAILURES = (aiohttp.ClientError, OSError)

_BODY_SECONDS = 1.0  # the status has been read by then, and the body only explains it
_ANSWER_BYTES = 1024
_ANSWER_LENGTH = 180
_LONGEST_PAUSE_SECONDS = 86_400.0

_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": f"creditsd/{__version__}",
    "Accept-Encoding": "identity",
}


def session(
    connector: aiohttp.TCPConnector, timeout: aiohttp.ClientTimeout, headers: Mapping[str, str] | None = None
) -> aiohttp.ClientSession:
    """Make a client that posts JSON, keeps no cookies, and unpacks nothing: a small body could be a large one."""
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={**_HEADERS, **(headers or {})},
    )


async def close(client: aiohttp.ClientSession | None) -> None:
    """Close the connections, waiting 2 s at most."""
    if client is not None:
        async with bounded():
            await client.close()


async def read_little(response: aiohttp.ClientResponse) -> bytes:
    """Read a kilobyte of an answer at most, and for a second."""
    body = b""
    if not response.content.at_eof():
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with asyncio.timeout(_BODY_SECONDS):
                body = await response.content.read(_ANSWER_BYTES)
    return body


def said(status: int, body: bytes, secrets: Sequence[str]) -> str:
    """Write an answer that is no success as one line: its status, and what it says."""
    words = one_line(body.decode(errors="replace"), secrets, longest=_ANSWER_LENGTH)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        words = "redirects are not followed: set the url it leads to"
    return f"answered {status}: {words}" if words else f"answered {status}"


def retry_after_seconds(header: str | None, now: datetime | None = None) -> float | None:
    """Read Retry-After, seconds or a date (RFC 9110, 10.2.3); more than a day counts as a day."""
    text = (header or "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_PAUSE_SECONDS)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    seconds = (date.replace(tzinfo=date.tzinfo or UTC) - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_PAUSE_SECONDS)


def failure(error: Exception, secrets: Sequence[str]) -> str:
    """Say what went wrong with a request, without the url, which may carry a password."""
    return one_line(_failure(error), secrets, longest=_ANSWER_LENGTH)


def _failure(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status} {error.message}"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"no HTTP: {error.message}"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ConnectionError) and cause.errno is not None:
        return os.strerror(cause.errno)  # asyncio's own text only repeats the address
    if isinstance(cause, ConnectionError | aiohttp.ClientOSError) and cause.errno is None:
        return "the connection was lost"  # and theirs, of what was being written to which url
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    return text or type(error).__name__
