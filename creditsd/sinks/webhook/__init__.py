"""Webhooks by the Standard Webhooks specification: one signed POST for each event of a user."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import islice
from typing import Literal

import aiohttp
import structlog
import yarl
from pydantic import BaseModel, Field, IPvAnyNetwork, PositiveFloat, PositiveInt

from creditsd import __version__
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.domain.events import Event, Type
from creditsd.domain.total import Total
from creditsd.sinks import Rejection, SinkBusy, SinkDisabled
from creditsd.sinks.webhook import signing
from creditsd.sinks.webhook.message import Message, MessageWriter
from creditsd.sinks.webhook.signing import Signer
from creditsd.sinks.webhook.ssrf_guard import SsrfGuard

log = structlog.get_logger()

MAX_BATCH = 1024

_CLOSE_SECONDS = 2.0
_BODY_SECONDS = 1.0  # the status has been read by then, and the body only explains it
_ANSWER_BYTES = 1024
_REASON_LENGTH = 200
_LONGEST_PAUSE_SECONDS = 86_400.0

# The receiver, or what stands before it, says that it is not the delivery's fault.
_TRY_LATER = frozenset({429, 502, 503, 504})

# Signing a few at a time costs a third of signing each as it is sent: the processor finds everything at hand.
_WRITTEN_TOGETHER = 16

# How many totals must find nobody before the endpoint counts as away; fewer may have themselves to blame. Each try
# that found nobody asks for twice as many, so that no few users, however ill, stop everyone else.
_FEWEST_MISSES = 4
_MOST_MISSES = 64


class Options(BaseModel, extra="forbid"):
    """What can be set beside the url."""

    secret: str = Field(default="", repr=False)
    secrets: list[str] = Field(default=[], repr=False)
    events: list[Type] = Field(default=["credits.updated"], min_length=1)
    allow_cidrs: list[IPvAnyNetwork] = []
    proxy: str = Field(default="", repr=False)
    ca_file: str = ""
    timeout_seconds: PositiveFloat = Field(default=15.0, allow_inf_nan=False)
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    concurrency: PositiveInt = 64
    disable_after_seconds: PositiveFloat | None = Field(default=None, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How one attempt ended: `arrived`, `refused` (its fault), `unavailable` (the receiver's), or `gone` for good."""

    kind: Literal["arrived", "refused", "unavailable", "gone"]
    reason: str = ""
    status: int | None = None
    retry_after_seconds: float | None = None
    accepted: tuple[Event, ...] = ()


_ARRIVED = _Outcome("arrived")


@dataclass(slots=True)
class _Round:
    """The totals of one batch. They begin in order, so those that have begun are always the first of the batch."""

    waiting: Iterator[Total]
    write: Callable[[Total], Sequence[Message]]
    patience: int
    written: deque[tuple[Total, Sequence[Message]]] = field(default_factory=deque)
    outcomes: dict[str, _Outcome] = field(default_factory=dict)
    begun: int = 0
    asked: int = 0
    answered: bool = False
    failed: _Outcome | None = None

    @property
    def over(self) -> bool:
        """Whether the endpoint asks for patience, or seems to be away."""
        failed = self.failed
        return failed is not None and (self.answered or failed.kind == "gone" or self.asked >= self.patience)

    def next(self) -> Sequence[Message]:
        """Return what to send of the next user, one after the other; nothing at the end, or once it is over.

        Totals that bring nothing this endpoint was to be told are through without a request.
        """
        while not self.over:
            if not self.written:
                self.written.extend((each, self.write(each)) for each in islice(self.waiting, _WRITTEN_TOGETHER))
                if not self.written:
                    break
            self.begun += 1
            total, messages = self.written.popleft()
            if messages:
                self.asked += 1
                return messages
            self.outcomes[total.user_id] = _ARRIVED
        return ()

    def note(self, total: Total, outcome: _Outcome) -> None:
        """Keep how an attempt ended."""
        self.outcomes[total.user_id] = outcome
        self.answered = self.answered or bool(outcome.accepted)
        match outcome.kind:
            case "gone":
                self.failed = outcome
            case "unavailable":
                self.failed = self.failed or outcome
            case _:
                self.answered = True

    def pause_seconds(self) -> float | None:
        """Return how long the endpoint asks to be left alone: the longest of what it said."""
        failed = (each for each in self.outcomes.values() if each.kind == "unavailable")
        return max((each.retry_after_seconds for each in failed if each.retry_after_seconds is not None), default=None)


class WebhookSink:
    """One endpoint. A total may arrive twice or late: its `version`, and `webhook-id`, tell."""

    max_batch = MAX_BATCH

    def __init__(
        self, name: str, url: yarl.URL, signers: Sequence[Signer], options: Options, trust: ssl.SSLContext | None
    ) -> None:
        self._name = name
        self._url = url
        self._label = f"sink {name}: {url.host}:{url.port}"
        self._signers = signers
        self._messages = MessageWriter(name, frozenset(options.events), signers)
        self._options = options
        self.events = options.events
        self._trust = trust
        self._proxy = yarl.URL(options.proxy) if options.proxy else None
        keys = [signing.bare(secret) for secret in _given(options)]
        passwords = (url.password, self._proxy.password if self._proxy else None)
        self._secrets = [each for each in (*passwords, *keys) if each]
        self._width = float(options.concurrency)
        self._misses = 0
        self._session: aiohttp.ClientSession | None = None
        self.disable_after_seconds = options.disable_after_seconds

    async def open(self) -> None:
        """Make the connection pool; an endpoint cannot be asked whether it is there without a delivery."""
        await self.close()
        options = self._options
        guard = SsrfGuard(options.allow_cidrs)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=options.concurrency,
                # Behind a proxy there is one address we ever connect to, and it was chosen by whoever runs us.
                socket_factory=None if self._proxy else guard.socket,
                ssl=self._trust or True,
            ),
            # The time-out of the whole is our own, in _post: the client's costs a sixth of all a request costs.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=options.connect_timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # nobody asked for it, and a small body could be a large one
            headers={
                "Content-Type": "application/json",
                "User-Agent": f"creditsd/{__version__}",
                "Accept-Encoding": "identity",
            },
        )
        for each in self._signers:
            if each.public_key is not None:
                log.info("webhook.signed_by", sink=self._name, public_key=each.public_key)

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """POST what is owed of each total: of many users at once, of one user one event after the other.

        The first answer that asks for patience ends the batch: raises SinkBusy, which says how many of it are through.
        Raises SinkDisabled when the endpoint is gone for good.
        """
        if self._session is None:
            raise SinkUnavailable(f"{self._label}: is not open")
        lines = min(int(self._width), len(totals))
        patience = max(lines, min(_FEWEST_MISSES << min(self._misses, 8), _MOST_MISSES))
        attempt = _Round(iter(totals), self._messages.write, patience)
        # The tasks end with this call, so the daemon's own group still is the only thing that lasts.
        async with asyncio.TaskGroup() as group:
            for _ in range(lines):
                group.create_task(self._line(self._session, attempt))
        self._pace(attempt)
        return self._judge(totals, attempt)

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

    async def _line(self, session: aiohttp.ClientSession, attempt: _Round) -> None:
        while messages := attempt.next():
            outcome = await self._post_all(session, messages, attempt)
            attempt.note(messages[0].total, outcome)

    async def _post_all(self, session: aiohttp.ClientSession, messages: Sequence[Message], attempt: _Round) -> _Outcome:
        """POST one user's until one does not arrive, or nothing more is to be sent."""
        accepted: list[Event] = []
        for each in messages:
            if accepted and attempt.failed is not None and attempt.over:
                outcome = replace(attempt.failed, kind="unavailable")
            else:
                outcome = await self._post(session, self._messages.fresh(each))
            if outcome.kind != "arrived":
                return replace(outcome, accepted=tuple(accepted))
            accepted.append(each.event)
        return _ARRIVED

    def _pace(self, attempt: _Round) -> None:
        """Halve the requests at once for an endpoint that asks for patience; add one for each round without."""
        if any(each.status in _TRY_LATER for each in attempt.outcomes.values()):
            self._width = max(1.0, self._width / 2)
        elif attempt.failed is None:
            grown = self._width + min(1.0, attempt.asked / self._width)
            self._width = min(grown, float(self._options.concurrency))

    def _judge(self, totals: Sequence[Total], attempt: _Round) -> Sequence[Rejection]:
        refused = [
            Rejection(total, outcome.reason, outcome.status, outcome.retry_after_seconds, outcome.accepted)
            for total in totals[: attempt.begun]
            if (outcome := attempt.outcomes[total.user_id]).kind != "arrived"
        ]
        failed = attempt.failed
        if failed is None:
            self._misses = 0
            return refused
        if failed.kind == "gone":
            raise SinkDisabled(f"{self._label}: {failed.reason}")
        pause = attempt.pause_seconds()
        if not attempt.answered:
            self._misses += 1
            raise SinkBusy(f"{self._label}: {failed.reason}", pause)
        self._misses = 0
        if attempt.begun == len(totals) and pause is None:
            return refused
        raise SinkBusy(f"{self._label}: {failed.reason}", pause, through=attempt.begun, refused=refused)

    async def _post(self, session: aiohttp.ClientSession, message: Message) -> _Outcome:
        try:
            async with (
                asyncio.timeout(self._options.timeout_seconds),
                session.post(
                    self._url, data=message.body, headers=message.headers, allow_redirects=False, proxy=self._proxy
                ) as response,
            ):
                return await self._outcome(response)
        except TimeoutError:
            return _Outcome("unavailable", "no answer in time")
        except (aiohttp.ClientError, OSError) as error:
            return _Outcome("unavailable", self._said(_why(error)))

    async def _outcome(self, response: aiohttp.ClientResponse) -> _Outcome:
        """Judge by the status alone; of the body at most 1 KiB is ever taken, for the reason, and not for long."""
        status, answer = response.status, b""
        if not response.content.at_eof():
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with asyncio.timeout(_BODY_SECONDS):
                    answer = await response.content.read(_ANSWER_BYTES)
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return _ARRIVED
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            said = "redirects are not followed: set the url it leads to"
        else:
            said = self._said(answer.decode(errors="replace"))
        reason = f"answered {status}: {said}" if said else f"answered {status}"
        pause = retry_after_seconds(response.headers.get("Retry-After"), datetime.now(UTC))
        return _Outcome(_kind(status), reason[:_REASON_LENGTH], status, pause)

    def _said(self, text: str) -> str:
        """Make a stranger's words fit for a log: one line, printable, bounded, without our secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        words = "".join(each if each.isprintable() else " " for each in text).split()
        return " ".join(words)[: _REASON_LENGTH - 20]


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
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
    seconds = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_PAUSE_SECONDS)


def create(name: str, url: str, options: Options) -> WebhookSink:
    """Make the sink for a `webhook+https:` or `webhook+http:` url. Raises ConfigError."""
    scheme, _, rest = url.partition(":")
    transport = scheme.lower().removeprefix("webhook+")
    if transport not in ("https", "http"):
        raise ConfigError(f"sink {name}: the url must begin with webhook+https:// or webhook+http://")
    target = _target(f"{transport}:{rest}")
    if target is None:
        raise ConfigError(f"sink {name}: the url is not webhook+https://host[:port]/path")
    if not _given(options):
        raise ConfigError(f"sink {name}: {signing.required()}")
    try:
        signers = [signing.signer(secret) for secret in _given(options)]
        if options.proxy:
            _check_proxied(target, options)
        trust = ssl.create_default_context(cafile=options.ca_file) if options.ca_file else None
    except ValueError as error:
        raise ConfigError(f"sink {name}: {error}") from None
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"sink {name}: ca_file {options.ca_file}: {error.strerror or error}") from None
    if any(each.weak for each in signers):
        log.warning("webhook.secret_short", sink=name, wanted_bytes=signing.SECRET_BYTES)
    return WebhookSink(name, target, signers, options, trust)


def _target(url: str) -> yarl.URL | None:
    with contextlib.suppress(ValueError):  # its text would quote the url, and with it the password
        target = yarl.URL(url)
        if target.host and target.port:
            return target
    return None


def _check_proxied(target: yarl.URL, options: Options) -> None:
    """Check what of the guard is left to us: the proxy resolves names, but an address in the url is no name."""
    proxy = _target(options.proxy)
    if proxy is None or proxy.scheme not in ("http", "https"):
        raise ValueError("proxy is not http://[user:password@]host:port")
    try:
        host = ipaddress.ip_address(target.host or "")
    except ValueError:
        return
    try:
        SsrfGuard(options.allow_cidrs).check(host)
    except PermissionError as error:
        raise ValueError(error.strerror) from None


def _given(options: Options) -> list[str]:
    return [secret for secret in (options.secret, *options.secrets) if secret]


def _kind(status: int) -> Literal["unavailable", "refused", "gone"]:
    if status == HTTPStatus.GONE:
        return "gone"
    return "unavailable" if status in _TRY_LATER else "refused"


def _why(error: Exception) -> str:
    """Say what went wrong without the url, which may carry a password."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status} {error.message}"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"no HTTP: {error.message}"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ConnectionError) and cause.errno is not None:
        return os.strerror(cause.errno)  # asyncio's own text only repeats the address
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    return text or type(error).__name__
