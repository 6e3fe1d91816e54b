"""Webhooks by the Standard Webhooks specification: one signed POST per total."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import hashlib
import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Literal

import aiohttp
import orjson
import structlog
import yarl
from pydantic import BaseModel, Field, IPvAnyNetwork, PositiveFloat, PositiveInt
from standardwebhooks import Webhook as Signer

from creditsd import __version__
from creditsd.errors import ConfigError, SinkUnavailable
from creditsd.model import Total, encode
from creditsd.sinks import Rejection, SinkBusy

log = structlog.get_logger()

MAX_BATCH = 512

_CLOSE_SECONDS = 2.0
_ANSWER_BYTES = 1024
_REASON_LENGTH = 200
_LONGEST_PAUSE_SECONDS = 86_400.0
_SECRET_BYTES = 24  # the specification asks for 24 to 64

# The receiver, or what stands before it, says that it is not the delivery's fault.
_TRY_LATER = frozenset({429, 502, 503, 504})

_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_MAKE_A_SECRET = 'make one with: echo "whsec_$(openssl rand -base64 32)"'  # noqa: S105  no secret, a recipe

# Addresses that Python, or some version of it, calls global and that reach a cloud's insides all the same:
# Azure's host agent; the IETF's protocol block, where Oracle keeps its metadata; IPv6's former private block.
_INSIDE = tuple(ipaddress.ip_network(each) for each in ("168.63.129.16/32", "192.0.0.0/24", "fec0::/10"))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Options(BaseModel, extra="forbid"):
    """What can be set beside the url."""

    secret: str = Field(default="", repr=False)
    secrets: list[str] = Field(default=[], repr=False)
    events: list[Literal["credits.updated"]] = Field(default=["credits.updated"], min_length=1)
    allow_cidrs: list[IPvAnyNetwork] = []
    timeout_seconds: PositiveFloat = Field(default=15.0, allow_inf_nan=False)
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    concurrency: PositiveInt = 64


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How one attempt ended: `arrived`, `refused` (its own fault) or `unavailable` (the receiver's)."""

    kind: Literal["arrived", "refused", "unavailable"]
    reason: str = ""
    status: int | None = None
    retry_after_seconds: float | None = None


class Webhook:
    """One endpoint. A total may arrive twice or late: its `version`, and `webhook-id`, tell."""

    max_batch = MAX_BATCH

    def __init__(self, name: str, url: yarl.URL, signers: Sequence[Signer], options: Options) -> None:
        self._name = name
        self._url = url
        self._label = f"sink {name}: {url.host}:{url.port}"
        self._signers = signers
        self._options = options
        keys = [secret.strip().removeprefix("whsec_").rstrip("=") for secret in _given(options)]
        self._secrets = [each for each in (url.password, *keys) if each]
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the connection pool; an endpoint cannot be asked whether it is there without a delivery."""
        await self.close()
        options = self._options
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=options.concurrency, socket_factory=self._socket),
            timeout=aiohttp.ClientTimeout(total=options.timeout_seconds, sock_connect=options.connect_timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # nobody asked for it, and a small body could be a large one
            headers={
                "Content-Type": "application/json",
                "User-Agent": f"creditsd/{__version__}",
                "Accept-Encoding": "identity",
            },
        )

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """POST each total, `concurrency` at once; their order is told by the version only.

        As long as no attempt has been answered, each failure ends one of the parallel lines, so that a dead
        endpoint is found out in one time-out and not in many.
        """
        if self._session is None:
            raise SinkUnavailable(f"{self._label}: is not open")
        outcomes: dict[str, _Outcome] = {}
        waiting = iter(totals)
        # The tasks end with this call, so the daemon's own group still is the only thing that lasts.
        async with asyncio.TaskGroup() as lines:
            for _ in range(min(self._options.concurrency, len(totals))):
                lines.create_task(self._line(self._session, waiting, outcomes))
        failed = [outcome for outcome in outcomes.values() if outcome.kind == "unavailable"]
        if totals and len(failed) == len(outcomes):
            pauses = [each.retry_after_seconds for each in failed if each.retry_after_seconds is not None]
            raise SinkBusy(f"{self._label}: {failed[0].reason}", max(pauses, default=None))
        return [
            Rejection(total, outcome.reason, outcome.status, outcome.retry_after_seconds)
            for total in totals
            if (outcome := outcomes[total.user_id]).kind != "arrived"
        ]

    async def held(self, user_id: str) -> int | None:  # noqa: ARG002  the protocol's signature
        """Tell nothing: an endpoint cannot be asked."""
        return None

    async def close(self) -> None:
        """Close the connections, waiting 2 s at most."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await session.close()

    async def _line(
        self, session: aiohttp.ClientSession, waiting: Iterator[Total], outcomes: dict[str, _Outcome]
    ) -> None:
        for total in waiting:
            outcomes[total.user_id] = await self._post(session, total)
            if all(outcome.kind == "unavailable" for outcome in outcomes.values()):
                return

    async def _post(self, session: aiohttp.ClientSession, total: Total) -> _Outcome:
        body = _body(total)
        try:
            async with session.post(
                self._url, data=body, headers=self._headers(total, body), allow_redirects=False
            ) as response:
                return await self._outcome(response)
        except TimeoutError:
            return _Outcome("unavailable", "no answer in time")
        except (aiohttp.ClientError, OSError) as error:
            return _Outcome("unavailable", self._said(_why(error)))

    def _headers(self, total: Total, body: bytes) -> dict[str, str]:
        identity = webhook_id(self._name, total)
        now = datetime.now(UTC)
        text = body.decode()
        signatures = [signer.sign(identity, now, text) for signer in self._signers]
        return {
            "webhook-id": identity,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }

    async def _outcome(self, response: aiohttp.ClientResponse) -> _Outcome:
        """Judge by the status alone; of the body at most 1 KiB is ever taken, for the reason."""
        status = response.status
        answer = b""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            answer = await response.content.read(_ANSWER_BYTES)
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return _Outcome("arrived")
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            said = "redirects are not followed: set the url it leads to"
        else:
            said = self._said(answer.decode(errors="replace"))
        reason = f"answered {status}: {said}" if said else f"answered {status}"
        pause = retry_after_seconds(response.headers.get("Retry-After"), datetime.now(UTC))
        kind: Literal["unavailable", "refused"] = "unavailable" if status in _TRY_LATER else "refused"
        return _Outcome(kind, reason[:_REASON_LENGTH], status, pause)

    def _said(self, text: str) -> str:
        """Make a stranger's words fit for a log: one line, printable, bounded, without our secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        words = "".join(each if each.isprintable() else " " for each in text).split()
        return " ".join(words)[: _REASON_LENGTH - 20]

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Make the socket for one resolved address, or refuse it.

        This is the last step before the connection, so no later answer of a name server can get around it.
        """
        family, kind, protocol, _, address = info
        host = ipaddress.ip_address(address[0].partition("%")[0])
        if is_inside(host) and not self._allowed(host):
            raise PermissionError(
                errno.EACCES, f"{host} is not a public address: list it in allow_cidrs if it is meant"
            )
        return socket.socket(family, kind, protocol)

    def _allowed(self, host: Address) -> bool:
        plain = _unwrapped(host)
        return any(plain in network or host in network for network in self._options.allow_cidrs)


def webhook_id(sink: str, total: Total) -> str:
    """Name the message: the same on every attempt and after every restart, another for every version."""
    parts = "\0".join((sink, total.user_id, str(total.version)))
    return f"msg_{hashlib.sha256(parts.encode()).hexdigest()[:32]}"


def is_inside(host: Address) -> bool:
    """Tell whether an address is anything but one of the public internet."""
    plain = _unwrapped(host)
    if not plain.is_global or plain.is_multicast or plain.is_reserved:
        return True
    return any(plain in network for network in _INSIDE)


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Read Retry-After, seconds or a date (RFC 9110, 10.2.3); more than a day counts as a day."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_PAUSE_SECONDS)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    seconds = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_PAUSE_SECONDS)


def create(name: str, url: str, options: Options) -> Webhook:
    """Make the sink for a `webhook+https:` or `webhook+http:` url. Raises ConfigError."""
    scheme, _, rest = url.partition(":")
    transport = scheme.lower().removeprefix("webhook+")
    if transport not in ("https", "http"):
        raise ConfigError(f"sink {name}: the url must begin with webhook+https:// or webhook+http://")
    target = _target(name, f"{transport}:{rest}")
    given = _given(options)
    if not given:
        raise ConfigError(f"sink {name}: webhooks are signed and need a secret: {_MAKE_A_SECRET}")
    keys = [_key(name, secret) for secret in given]
    if any(len(key) < _SECRET_BYTES for key in keys):
        log.warning("webhook.secret_short", sink=name, wanted_bytes=_SECRET_BYTES)
    return Webhook(name, target, [Signer(key) for key in keys], options)


def _target(name: str, url: str) -> yarl.URL:
    try:
        target = yarl.URL(url)
        if target.host and target.port:
            return target
    except ValueError:  # its text would quote the url, and with it the password
        pass
    raise ConfigError(f"sink {name}: the url is not webhook+https://host[:port]/path")


def _given(options: Options) -> list[str]:
    return [secret for secret in (options.secret, *options.secrets) if secret]


def _key(name: str, secret: str) -> bytes:
    """Decode strictly: the signing library drops what is not base64 and would sign with the rest."""
    text = secret.strip().removeprefix("whsec_")
    bare = text.rstrip("=")
    if not _BASE64.fullmatch(text) or len(bare) % 4 == 1:
        raise ConfigError(f"sink {name}: the secret is not whsec_ and base64: {_MAKE_A_SECRET}")
    return base64.b64decode(bare + "=" * (-len(bare) % 4))


def _body(total: Total) -> bytes:
    previous = None if total.previous_json is None else orjson.Fragment(total.previous_json)
    data = total.document() | {"previous": previous, "cause": total.cause}
    return encode({"type": "credits.updated", "timestamp": total.updated_at.astimezone(UTC), "data": data})


def _unwrapped(host: Address) -> Address:
    """Look through the IPv6 forms that lead to an IPv4 address."""
    if isinstance(host, ipaddress.IPv6Address):
        if host in _NAT64:
            return ipaddress.IPv4Address(int(host) & 0xFFFF_FFFF)
        return host.ipv4_mapped or host.sixtofour or host
    return host


def _why(error: Exception) -> str:
    """Say what went wrong without the url, which may carry a password."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ConnectionError) and cause.errno is not None:
        return os.strerror(cause.errno)  # asyncio's own text only repeats the address
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    return text or type(error).__name__
