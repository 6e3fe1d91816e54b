"""The HTTP surface opened for a test, clients that ask it, and tokens of every kind."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
from yarl import URL

from creditsd.config.http_settings import HttpSettings
from creditsd.domain.errors import RowsError
from creditsd.domain.user_id import canonical
from creditsd.http.hub import Current, Hub
from creditsd.http.server import OTHER_CONNECTIONS, HttpServer, Timings
from creditsd.metrics.registry import registry
from tests.servers import free_port

KEY = "a key of a server, long enough"
SECRET = "a secret of sixty-four bytes, as long as the digest of HS256 is."
ONE = "00000000-0000-0000-0000-000000000001"
TWO = "00000000-0000-0000-0000-000000000002"


def token(sub: Any = ONE, *, seconds: float = 60, key: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """Make a token; a header is given as `headers`."""
    headers = claims.pop("headers", None)
    payload = {"sub": sub, "exp": int(time.time() + seconds), **claims}
    return jwt.encode({name: value for name, value in payload.items() if value is not None}, key, algorithm, headers)


def bearer(credential: str) -> dict[str, str]:
    """Write a key or token as it is sent."""
    return {"Authorization": f"Bearer {credential}"}


class Shelf:
    """A source that a test fills: totals of users, which it offers as they are put."""

    def __init__(self, user_id_type: str = "uuid") -> None:
        self.totals: dict[str, Current] = {}
        self.watched: list[str] = []
        self.unwatched: list[str] = []
        self.failure: Exception | None = None
        self.readable = asyncio.Event()
        self.readable.set()
        self.reading = asyncio.Event()
        self._user_id_type = user_id_type
        self.hub = Hub(self)

    def put(self, user_id: str, version: int, **facts: Any) -> None:
        """Store a total and tell of it."""
        self.totals[user_id] = (version, json.dumps({"user_id": user_id, "version": version, **facts}).encode())
        self.hub.offer(user_id, *self.totals[user_id])

    def canonical(self, user_id: str) -> str:
        return canonical(self._user_id_type, user_id)

    async def read(self, user_id: str) -> Current | None:
        found = self.totals.get(user_id)
        self.reading.set()
        await self.readable.wait()
        if self.failure is not None:
            raise self.failure
        return found

    async def read_many(self, user_ids: Sequence[str]) -> Sequence[Current | RowsError | None]:
        return [await self._read_or_why(user_id) for user_id in user_ids]

    async def _read_or_why(self, user_id: str) -> Current | RowsError | None:
        try:
            return await self.read(user_id)
        except RowsError as error:
            return error

    async def watch(self, user_id: str) -> None:
        self.watched.append(user_id)

    def unwatch(self, user_id: str) -> None:
        self.unwatched.append(user_id)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def error(self) -> str:
        """The line that says what is wrong, of an answer that is nothing but that."""
        assert isinstance(self.body, dict), self
        assert self.body.keys() == {"success", "error"}, self
        assert self.body["success"] is False
        return str(self.body["error"])


class Events:
    """A stream as a client reads it, message by message."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.raw = b""

    async def block(self) -> dict[str, str]:
        """Wait for the next block of lines, heartbeats included; empty at the end of the stream."""
        lines: dict[str, str] = {}
        async with asyncio.timeout(60):
            while line := await self.response.content.readline():
                self.raw += line
                if line == b"\n":
                    return lines
                name, _, value = line.decode().rstrip("\n").partition(":")
                lines[name] = value.removeprefix(" ")
        return lines

    async def message(self) -> dict[str, str]:
        """Wait for the next block that is neither a heartbeat nor the first advice."""
        while (found := await self.block()).keys() in ({""}, {"retry"}):
            pass
        return found

    async def total(self) -> dict[str, Any]:
        """Wait for the next total, and return its JSON."""
        found = await self.message()
        assert found.keys() == {"id", "data"}, found
        total: dict[str, Any] = json.loads(found["data"])
        assert int(found["id"]) == total["version"]
        return total

    async def until(self, version: int) -> list[int]:
        """Read totals up to a version, and return the versions that came."""
        versions: list[int] = []
        while not versions or versions[-1] < version:
            versions.append(int((await self.total())["version"]))
        return versions

    async def farewell(self) -> str:
        """Read to the end, which must be said, and return its reason."""
        found: dict[str, str] = {}
        while block := await self.block():
            found = block
        assert found.get("event") == "close", found
        return str(json.loads(found["data"])["reason"])


class Asking:
    """A client of one surface."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._session = session

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask for a path as it is written, with headers of which _ stands for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(self.url + path, encoded=True)
        async with self._session.request(method, url, headers=named, allow_redirects=False) as response:
            body = await response.read()
            is_json = response.content_type == "application/json"
            return Answer(response.status, json.loads(body) if is_json and body else body.decode(), response.headers)

    async def post(self, path: str, body: Any, credential: str) -> Answer:
        """Send JSON to a path."""
        async with self._session.post(self.url + path, json=body, headers=bearer(credential)) as response:
            return Answer(response.status, await response.json(), response.headers)

    async def send(self, path: str, body: bytes, credential: str) -> Answer:
        """Send bytes to a path."""
        async with self._session.post(self.url + path, data=body, headers=bearer(credential)) as response:
            return Answer(response.status, await response.json(), response.headers)

    async def promise(self, path: str, credential: str) -> bytes:
        """Say that a body comes, send half of it, and return what is answered."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {credential}\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: 20\r\n\r\n{{".encode())
        try:
            async with asyncio.timeout(60):
                answered = await reader.readuntil(b"}")
                writer.write(b" " * 19)
                await reader.read()
                return answered
        finally:
            writer.close()

    async def read(self, user_id: str, credential: str | None) -> Answer:
        """Ask for a user's total."""
        return await self.get(f"/v1/users/{user_id}/credits", **({} if credential is None else bearer(credential)))

    @asynccontextmanager
    async def stream(self, path: str, credential: str, **headers: str) -> AsyncIterator[Events]:
        """Open a stream."""
        named = bearer(credential) | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.get(self.url + path, headers=named) as response:
            assert response.status == 200, await response.text()
            yield Events(response)


@asynccontextmanager
async def asking(port: int) -> AsyncIterator[Asking]:
    """Ask whoever listens on a port."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield Asking(port, session)


def counted(surface: HttpServer, name: str, **labels: str) -> int:
    """Return what a surface has counted so far under a metric's name, without `creditsd_` and `_total`."""
    families = {family.name: family for family in surface.registry.collect()}
    samples = families[f"creditsd_{name}"].samples
    return int(sum(sample.value for sample in samples if labels.items() <= sample.labels.items()))


def http(**settings: Any) -> dict[str, Any]:
    """Settings of a surface on a free port, open to a server and to users."""
    return {"listen": f"127.0.0.1:{free_port()}", "api_keys": [KEY], "jwt_secret": SECRET, **settings}


@asynccontextmanager
async def served(
    source: Shelf, *, timings: Timings | None = None, other_connections: int = OTHER_CONNECTIONS, **settings: Any
) -> AsyncIterator[tuple[HttpServer, Asking]]:
    """Open a surface for a source."""
    made = HttpSettings.model_validate(http(listen="127.0.0.1:0") | settings)
    async with HttpServer(
        made,
        source.hub,
        lambda: {"alive": True, "ready": True},
        registry(),
        timings=timings,
        other_connections=other_connections,
    ) as surface:
        assert surface.port is not None
        async with asking(surface.port) as client:
            yield surface, client
