"""Supabase Realtime Broadcast: each total on the private topic of its user, by way of the database or of HTTP."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson
import psycopg
import yarl
from psycopg import AsyncConnection, errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from pydantic import BaseModel, Field, PositiveFloat

from creditsd import __version__
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.domain.total import Total, encode
from creditsd.postgres import sql_files
from creditsd.postgres.connections import LOCAL_SEARCH_PATH
from creditsd.sinks import Rejection, SinkBusy

MAX_BATCH = 500

_EVENT = "credits.updated"
_TOPIC = "credits:"
_PATH = "realtime/v1/api/broadcast"
_CLOSE_SECONDS = 2.0
_BODY_SECONDS = 1.0
_ANSWER_BYTES = 1024
_LONGEST_PAUSE_SECONDS = 86_400

# Realtime refuses a request whole that holds more messages than a project may send in a second: 100 at least.
_MESSAGES = 100

# What it says of the messages and not of itself: a body it cannot read, one too large, a message not to its liking.
_ABOUT_MESSAGES = frozenset({400, 413, 422})
_TRY_LATER = frozenset({408, 429, 500, 502, 503, 504})

_MENDS_HTTP = {
    401: "it refuses the key, or knows no such project: mend the option key, and the url",
    403: "it refuses the key: mend the option key",
    404: "there is no Realtime at this address: the url is supabase+https://PROJECT.supabase.co",
}

# What a refusal means for the person who runs it: words in the server's error or in the warning, and the mend.
_MENDS_DATABASE = (
    (("password authentication failed", "no password supplied"), "it refuses the user or password: mend the url"),
    (("read-only",), "it is a read-only replica: point the url at the primary"),
    (
        ("no partition of relation",),
        "Realtime keeps no messages there today: it makes room when a client connects, and then this goes on",
    ),
    (
        ("permission denied", "row-level security"),
        "its role may not send: log in as postgres, or grant it what docs/supabase.md lists",
    ),
    (
        ('schema "realtime" does not exist', "function realtime.send", 'relation "realtime.messages"'),
        "it has no realtime.send: is this the database of a Supabase project, with Realtime enabled?",
    ),
)


class Options(BaseModel, extra="forbid"):
    """What can be set beside the url."""

    key: str = Field(default="", repr=False)
    ca_file: str = ""
    timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why some messages were not taken, whichever of them is to blame; none of them was sent."""

    reason: str
    status: int | None = None


_Send = Callable[[Sequence[Total]], Awaitable[_Refusal | None]]


class _Connection(AsyncConnection[TupleRow]):
    """One that is given up where a query is: a server that hangs would not hear of a cancellation either."""

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ARG002, ASYNC109  the driver's signature
        self.pgconn.finish()


class ByDatabase:
    """Calls realtime.send in the project's database; Realtime reads what it stores from the write-ahead log."""

    max_batch = MAX_BATCH

    def __init__(self, name: str, dsn: str, options: Options) -> None:
        parts = conninfo_to_dict(dsn)
        self._dsn = dsn
        self._options = options
        self._application = f"creditsd sink {name}"
        self._label = f"sink {name}: {parts.get('host')}:{parts.get('port', 5432)}"
        self._secrets = [str(parts["password"])] if parts.get("password") else []
        self._connection: _Connection | None = None
        self._warnings: list[str] = []

    async def open(self) -> None:
        """Connect, and prove by a message that is taken back that messages can be stored."""
        await self._connected()

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Send each total, all in one transaction; where some cannot be stored, find out which.

        The function tells of a failure by a warning alone, and not of whose it was.
        """
        if not totals:
            return []
        await self._connected()
        refusal = await self._send(totals)
        if refusal is not None:
            await self._prove()
        return await _by_halves(self._send, totals, refusal)

    async def held(self, user_id: str) -> int | None:  # noqa: ARG002  the protocol's signature
        """Tell nothing: a broadcast is gone."""
        return None

    async def close(self) -> None:
        """Close the connection; waits for nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self) -> None:
        if self._connection is not None and not self._connection.closed:
            return
        async with self._told(self._options.connect_timeout_seconds):
            self._connection = await _Connection.connect(
                self._dsn, autocommit=True, application_name=self._application, prepare_threshold=None
            )
        self._connection.add_notice_handler(self._heed)
        await self._prove()

    async def _send(self, totals: Sequence[Total]) -> _Refusal | None:
        topics = [_topic(total) for total in totals]
        try:
            said = await self._call(topics, [total.json().decode() for total in totals])
        except (psycopg.DataError, errors.ProgramLimitExceeded) as error:
            return _Refusal(self._said(str(error)))
        return _Refusal(self._said(said)) if said else None

    async def _prove(self) -> None:
        """Send, and take it back. Raises SinkUnavailable where that fails: it is not the messages then."""
        said = await self._call([_TOPIC], ["{}"], keep=False)
        if said:
            await self.close()
            raise SinkUnavailable(f"{self._label}: {self._said(said)}")

    async def _call(self, topics: Sequence[str], payloads: Sequence[str], *, keep: bool = True) -> str:
        """Run one transaction; return the first warning, after which nothing of it is kept, or nothing."""
        connection = self._connection
        assert connection is not None
        self._warnings.clear()
        async with self._told(self._options.timeout_seconds), connection.transaction(force_rollback=not keep):
            values = {"topics": list(topics), "payloads": list(payloads), "event": _EVENT}
            await connection.execute(LOCAL_SEARCH_PATH)
            await connection.execute(sql_files.sql("queries/broadcast"), values)
            if self._warnings:
                raise psycopg.Rollback
        return self._warnings[0] if self._warnings else ""

    @contextlib.asynccontextmanager
    async def _told(self, seconds: float) -> AsyncIterator[None]:
        """Raise what goes wrong with the server as SinkUnavailable, after so many seconds without an answer too."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except (psycopg.DataError, errors.ProgramLimitExceeded):
            raise
        except (psycopg.Error, OSError) as error:  # TimeoutError is one
            task = asyncio.current_task()
            await self.close()
            if task is not None and task.cancelling():  # some drivers raise the loss of the connection in its place
                raise asyncio.CancelledError from None
            raise SinkUnavailable(f"{self._label}: {self._why(error)}") from None
        except asyncio.CancelledError:
            await self.close()
            raise

    def _heed(self, notice: errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING" and "SendingBroadcastMessage" in (notice.message_primary or ""):
            self._warnings.append(notice.message_primary or "")

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError | errors.ConnectionTimeout):
            return "no answer in time: is it up, and is the address right?"
        primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
        return self._said(primary or str(error))

    def _said(self, text: str) -> str:
        mend = next((mend for marks, mend in _MENDS_DATABASE if any(mark in text for mark in marks)), None)
        return mend or _plain(text, self._secrets)


class ByHttp:
    """Posts to Realtime's own endpoint: it needs no right in the database, and tells when there are too many."""

    max_batch = MAX_BATCH

    def __init__(self, name: str, url: yarl.URL, options: Options, trust: ssl.SSLContext | None) -> None:
        self._url = url / _PATH
        self._label = f"sink {name}: {url.host}:{url.port}"
        self._options = options
        self._trust = trust
        self._messages = _MESSAGES
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the connection pool; the endpoint cannot be asked anything without a message."""
        await self.close()
        options = self._options
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._trust or True),
            timeout=aiohttp.ClientTimeout(total=options.timeout_seconds, sock_connect=options.connect_timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={
                "apikey": options.key,
                "Content-Type": "application/json",
                "User-Agent": f"creditsd/{__version__}",
                "Accept-Encoding": "identity",
            },
        )

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Post the totals, some at once; half as many after a 429, until the project's limit lets them through."""
        refused: list[Rejection] = []
        step = self._messages
        for start in range(0, len(totals), step):
            part = totals[start : start + step]
            try:
                refused += await _by_halves(self._post, part, await self._post(part))
            except SinkBusy as busy:
                raise SinkBusy(str(busy), busy.retry_after_seconds, through=start, refused=refused) from None
        self._messages = min(self._messages + 1, _MESSAGES)
        return refused

    async def held(self, user_id: str) -> int | None:  # noqa: ARG002  the protocol's signature
        """Tell nothing: a broadcast is gone."""
        return None

    async def close(self) -> None:
        """Close the connections, waiting 2 s at most."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await session.close()

    async def _post(self, totals: Sequence[Total]) -> _Refusal | None:
        if self._session is None:
            raise SinkUnavailable(f"{self._label}: is not open")
        body = encode({"messages": [_message(total) for total in totals]})
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                return await self._judged(response)
        except TimeoutError:
            raise SinkBusy(f"{self._label}: no answer in time: is it up, and is the address right?") from None
        except (aiohttp.ClientError, OSError) as error:
            raise SinkBusy(f"{self._label}: {_plain(str(error), [self._options.key])}") from None

    async def _judged(self, response: aiohttp.ClientResponse) -> _Refusal | None:
        """Judge by the status. Raises SinkBusy where a later try may pass, SinkUnavailable where a person is needed."""
        status = response.status
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return None
        said = f"answered {status}: {await self._answer(response)}".removesuffix(": ")
        if status in _ABOUT_MESSAGES:
            return _Refusal(said, status)
        if status in _TRY_LATER:
            if status == HTTPStatus.TOO_MANY_REQUESTS:
                self._messages = max(1, self._messages // 2)
            raise SinkBusy(f"{self._label}: {said}", _pause_seconds(response.headers.get("Retry-After", "")))
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            said = f"answered {status}: redirects are not followed: set the url it leads to"
        raise SinkUnavailable(f"{self._label}: {_MENDS_HTTP.get(status, said)}")

    async def _answer(self, response: aiohttp.ClientResponse) -> str:
        """Read a little of what it says, not for long."""
        text = b""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with asyncio.timeout(_BODY_SECONDS):
                text = await response.content.read(_ANSWER_BYTES)
        return _plain(text.decode(errors="replace"), [self._options.key])


async def _by_halves(send: _Send, totals: Sequence[Total], refusal: _Refusal | None) -> list[Rejection]:
    """Find out who is to blame for the refusal of all these, and send the others."""
    if refusal is None:
        return []
    if len(totals) == 1:
        return [Rejection(totals[0], refusal.reason, refusal.status)]
    middle = len(totals) // 2
    found: list[Rejection] = []
    for half in (totals[:middle], totals[middle:]):
        found += await _by_halves(send, half, await send(half))
    return found


def create(name: str, url: str, options: Options) -> ByDatabase | ByHttp:
    """Make the sink for a `supabase:` url, the database's, or `supabase+https:`, the project's. Raises ConfigError."""
    scheme, _, rest = url.partition(":")
    transport = scheme.lower().removeprefix("supabase").removeprefix("+")
    if transport in ("https", "http"):
        return ByHttp(name, _project(name, f"{transport}:{rest}"), options, _checked(name, options))
    if transport:
        raise ConfigError(f"sink {name}: {scheme} is not supported: use supabase, supabase+https or supabase+http")
    if options.key or options.ca_file:
        raise ConfigError(f"sink {name}: key and ca_file go with supabase+https; a database is given all in its url")
    dsn = f"postgresql:{rest}"
    with contextlib.suppress(psycopg.ProgrammingError, ValueError):  # its own text would quote the password
        if conninfo_to_dict(dsn).get("host"):
            return ByDatabase(name, dsn, options)
    raise ConfigError(
        f"sink {name}: the url is not supabase://user:password@host:5432/postgres; special characters in the password "
        "must be percent-encoded"
    )


def _project(name: str, url: str) -> yarl.URL:
    with contextlib.suppress(ValueError):  # its text would quote the url
        project = yarl.URL(url)
        if project.host and project.port and not (project.raw_user or project.raw_query_string or project.fragment):
            return project
    raise ConfigError(f"sink {name}: the url is not supabase+https://PROJECT.supabase.co")


def _checked(name: str, options: Options) -> ssl.SSLContext | None:
    """Check what goes with HTTP, and load the certificates that are trusted in place of the system's, if any."""
    key = options.key
    if not key:
        raise ConfigError(f"sink {name}: key is missing: the secret key of the project (sb_secret_… or service_role)")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"sink {name}: key is not a key: it holds blanks, or letters that no key has")
    if key.startswith("sb_publishable_") or _role(key) in ("anon", "authenticated"):
        # It would be answered 202, and nothing sent: who may write to a private topic is asked for each message.
        raise ConfigError(f"sink {name}: key is the public one: private topics need sb_secret_… or service_role")
    try:
        return ssl.create_default_context(cafile=options.ca_file) if options.ca_file else None
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"sink {name}: ca_file {options.ca_file}: {error.strerror or error}") from None


def _role(key: str) -> Any:
    """Read whose key it is, where it is a JWT; nobody needs to verify it for that."""
    parts = key.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    except (binascii.Error, ValueError):
        return None
    return claims.get("role") if isinstance(claims, dict) else None


def _topic(total: Total) -> str:
    return _TOPIC + total.user_id


def _message(total: Total) -> dict[str, Any]:
    return {"topic": _topic(total), "event": _EVENT, "payload": orjson.Fragment(total.json()), "private": True}


def _pause_seconds(header: str) -> float | None:
    text = header.strip()
    return float(min(int(text), _LONGEST_PAUSE_SECONDS)) if text.isascii() and text.isdigit() else None


def _plain(text: str, secrets: Sequence[str]) -> str:
    """Make a stranger's words fit for a log: one line, printable, bounded, without our secrets."""
    for secret in secrets:
        text = text.replace(secret, "***")
    words = "".join(each if each.isprintable() else " " for each in text).split()
    return " ".join(words)[:180]
