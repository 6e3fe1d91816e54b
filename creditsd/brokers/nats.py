"""NATS: connecting, logging in, and what is found under a subject of JetStream."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import nats.errors
import nats.js.errors
from nats.aio.client import Client, RawCredentials
from nats.js import JetStreamContext
from pydantic import BaseModel, Field, FilePath, PositiveFloat, model_validator

from creditsd.brokers.tls import context
from creditsd.domain.errors import ConfigError, CreditsdError

FAILURES = (nats.errors.Error, TimeoutError, OSError)
_CLOSE_SECONDS = 2.0
SUBJECT_BYTES = 2000  # a server ends the connection at 4 096 bytes of subject, reply and command together
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

# What error codes of JetStream (server/errors.json of nats-server) mean for the person who runs the server.
_NO_JETSTREAM = "JetStream is not enabled: start nats-server with -js, and enable it for the account"
_NO_STORAGE = "it has no storage left for JetStream: give it more, or bound the stream"
_OTHER_STREAM = "another stream takes these subjects: set the option stream to its name, or choose another subject"
_MENDS = dict.fromkeys((10023, 10028, 10047), _NO_STORAGE) | {
    **dict.fromkeys((10039, 10076), _NO_JETSTREAM),
    **dict.fromkeys((10060, 10065), _OTHER_STREAM),
    10077: "its stream takes no more: raise its limits, or let it discard old messages",
}


class NatsOptions(BaseModel, extra="forbid"):
    """What can be set beside the url."""

    stream: str = Field(default="CREDITS", pattern=r"^[^\s.*>/\\]+$")
    subject: str = Field(default="credits", pattern=r"^[^\s.*>]+(\.[^\s.*>]+)*$")
    bucket: str = Field(default="", pattern=r"^[A-Za-z0-9_-]*$")
    token: str = ""
    creds: str = ""
    nkey: str = ""
    ca: str = ""
    client_certificate: FilePath | None = None
    timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_place_and_one_login(self) -> NatsOptions:
        given = self.model_fields_set
        if self.bucket and given & {"stream", "subject"}:
            raise ValueError("totals go to a bucket or to a stream: keep bucket, or stream and subject")
        if sum(map(bool, (self.token, self.creds, self.nkey))) > 1:
            raise ValueError("token, creds and nkey exclude each other: keep one")
        return self


@dataclass(frozen=True, slots=True)
class NatsConnection:
    """One connection, and the future that tells why it is of no use any more."""

    client: Client
    jetstream: JetStreamContext
    lost: asyncio.Future[str]


@dataclass(frozen=True, slots=True)
class User:
    """Who connects: what it is called in errors, the kind of error it raises, and the rights it needs."""

    name: str
    unavailable: type[CreditsdError]
    rights: str
    no_stream: str


class NatsBroker:
    """The servers of one url, and the stream (or bucket) there; connected when first needed, and again after a loss."""

    def __init__(
        self,
        user: User,
        servers: Sequence[str],
        login: Mapping[str, str],
        tls: ssl.SSLContext | None,
        options: NatsOptions,
    ) -> None:
        self._user = user
        self._label = f"{user.name}: {','.join(servers)}"
        self._servers = [f"nats://{server}" for server in servers]
        self._login = login
        self._tls = tls
        self._options = options
        self._link: NatsConnection | None = None
        self._secrets = [each for each in (*login.values(), options.token, options.nkey, options.creds) if each]
        self.stream = f"KV_{options.bucket}" if options.bucket else options.stream
        self.prefix = f"$KV.{options.bucket}." if options.bucket else f"{options.subject}."

    def subject(self, user_id: str) -> str:
        """Name the subject of a user's totals."""
        return self.prefix + encode_user(user_id)

    async def connected(self, prepare: Callable[[JetStreamContext], Awaitable[None]] | None = None) -> NatsConnection:
        """Return the connection, a new one if it was lost, which `prepare` sees first. Trying again is the caller's."""
        if self._link is not None and not self._link.lost.done():
            return self._link
        await self.close()
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        client = Client()
        self._link = NatsConnection(client, client.jetstream(timeout=self._options.timeout_seconds), lost)
        try:
            async with asyncio.timeout(self._options.connect_timeout_seconds):
                await self._connect(client, lost)
            if prepare is not None:
                await prepare(self._link.jetstream)
        except FAILURES as error:
            await self.close()
            if lost.done() and isinstance(error, TimeoutError):
                raise self._user.unavailable(f"{self._label}: {lost.result()}") from None
            raise self._unavailable(error) from None
        except BaseException:
            await self.close()
            raise
        return self._link

    async def last(self, link: NatsConnection, subject: str) -> tuple[int, bytes]:
        """Return sequence and payload of the subject's last message, 0 and nothing if there is none.

        Asked of the stream's leader: a direct get may be answered by a replica that is behind.
        """
        if len(subject) > SUBJECT_BYTES:
            return 0, b""
        try:
            message = await link.jetstream.get_last_msg(self.stream, subject)
        except nats.js.errors.NotFoundError as error:
            if error.err_code == 10037:  # no message found
                return 0, b""
            raise
        return message.seq or 0, message.data or b""

    async def together(self, link: NatsConnection, jobs: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """Run all at once; the first failure that is not of one total's own ends the connection and is raised."""
        work = asyncio.gather(*jobs, return_exceptions=True)
        done: set[asyncio.Future[Any]] = set()
        try:
            done, _ = await asyncio.wait((work, link.lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if work not in done:
                work.cancel()
                await asyncio.wait((work,))
        if work not in done:
            await self.close()
            raise self._user.unavailable(f"{self._label}: {link.lost.result()}")
        outcomes = work.result()
        failure = next((outcome for outcome in outcomes if isinstance(outcome, BaseException)), None)
        if failure is None:
            return outcomes
        if isinstance(failure, FAILURES):
            raise await self.failed(link, failure) from None
        await self.close()
        raise failure

    async def failed(self, link: NatsConnection, error: Exception) -> CreditsdError:
        """End the connection, and return the one line about it: what the server said before it ended, or the error."""
        told = link.lost.result() if link.lost.done() else None  # closing it would tell, too
        await self.close()
        return self._user.unavailable(f"{self._label}: {told}") if told else self._unavailable(error)

    async def close(self) -> None:
        """Close the connection, waiting 2 s at most for a server that does not let go."""
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(TimeoutError, nats.errors.Error, OSError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await link.client.close()

    async def _connect(self, client: Client, lost: asyncio.Future[str]) -> None:
        async def on_closed() -> None:
            if not lost.done():
                lost.set_result("the connection was lost: is the server up?")

        async def on_error(error: Exception) -> None:
            if "permissions violation" in str(error).lower() and not lost.done():
                rights = self._user.rights.format(subjects=f"{self.prefix}*")
                lost.set_result(f"its user lacks rights ({self._said(error)}): {rights}")

        await client.connect(
            self._servers,
            name="creditsd",
            error_cb=on_error,
            closed_cb=on_closed,
            allow_reconnect=False,  # connecting again is ours: a lost connection must be told, not waited for
            max_reconnect_attempts=1,  # of each server while connecting; 0 would mean for ever
            reconnect_time_wait=0,
            connect_timeout=max(1, round(self._options.connect_timeout_seconds)),
            tls=self._tls,
            **self._credentials(client),
        )
        self._insist_on_tls(client)

    def _credentials(self, client: Client) -> dict[str, Any]:
        """Give secrets as functions, which the client calls once it knows whether the line is encrypted."""

        def reveal(secret: str) -> str:
            self._insist_on_tls(client)
            return secret

        options = self._options
        login = {key: partial(reveal, value) for key, value in self._login.items()}
        given = {
            "token": partial(reveal, options.token) if options.token else None,
            "user_credentials": RawCredentials(options.creds) if options.creds else None,
            "nkeys_seed_str": options.nkey.strip() or None,
        }
        return given | login

    def _insist_on_tls(self, client: Client) -> None:
        """Refuse a line in the clear for nats+tls: the client encrypts only if the server asks for it."""
        if self._tls and not client._server_info.get("tls_required"):  # noqa: SLF001  it tells this nowhere else
            raise nats.errors.SecureConnRequiredError

    def _unavailable(self, error: Exception) -> CreditsdError:
        match error:
            case nats.js.errors.APIError(err_code=int(code)) if code in _MENDS:
                meaning = _MENDS[code]
            case nats.js.errors.APIError(err_code=10059):
                meaning = self._user.no_stream
            case nats.js.errors.NoStreamResponseError():
                meaning = f"no stream takes {self.prefix}*: add it to the subjects of {self.stream}"
            case nats.js.errors.ServiceUnavailableError() | nats.errors.NoRespondersError():
                meaning = _NO_JETSTREAM
            case nats.errors.SecureConnRequiredError():
                meaning = "it offers no TLS: configure it there, or use nats:// on a line you trust"
            case ssl.SSLCertVerificationError():
                meaning = f"its certificate is not trusted ({error.verify_message}): set ca_file to what signed it"
            case nats.errors.NoServersError() | ConnectionError():
                meaning = "cannot be reached: is it up, and is the address right?"
            case nats.errors.TimeoutError() | TimeoutError():
                meaning = "no answer in time: is it up, and is the address right?"
            case _ if "authorization" in f"{type(error).__name__} {error}".lower():
                meaning = "it refuses the user, password, token or key: mend the url or the credentials"
            case _:
                meaning = self._said(error) or type(error).__name__
        return self._user.unavailable(f"{self._label}: {meaning}")

    def _said(self, error: Exception) -> str:
        said = " ".join(str(error).split())
        for secret in self._secrets:
            said = said.replace(secret, "***")
        return said[:200]


def encode_user(user_id: str) -> str:
    """Write a user id as one token of a subject and as a key of a bucket.

    Letters, digits, - and _ stay; any other byte of its UTF-8 becomes = and two hexadecimal digits. An empty
    id, which no token may be, becomes a single =.
    """
    return "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in user_id.encode()) or "="


def reach(user: User, url: str, options: NatsOptions) -> NatsBroker:
    """Read a `nats:` or `nats+tls:` url, several servers separated by commas; connects nothing. Raises ConfigError."""
    scheme = url.split(":", 1)[0].lower()
    if scheme not in ("nats", "nats+tls"):
        raise ConfigError(f"{user.name}: {scheme} is not supported: use nats or nats+tls")
    try:
        servers, login = _parsed(url)
    except ValueError:  # its text may quote the url, and with it the password
        raise ConfigError(
            f"{user.name}: the url is not {scheme}://[user:password@]host[:port][,host[:port] …]; "
            "special characters in the password must be percent-encoded"
        ) from None
    if login and (options.token or options.creds or options.nkey):
        raise ConfigError(f"{user.name}: the url has a login, and so do the options: keep one")
    return NatsBroker(
        user,
        servers,
        login,
        context(user.name, options.ca, options.client_certificate) if scheme == "nats+tls" else None,
        options,
    )


def _parsed(url: str) -> tuple[list[str], dict[str, str]]:
    """Split into servers and login; user without password is a token, as everywhere with NATS."""
    rest = url.partition("://")[2].removesuffix("/")
    userinfo, _, hosts = rest.rpartition("@")
    servers = [_server(host) for host in hosts.split(",")]
    user, colon, password = (unquote(part) for part in userinfo.partition(":"))
    if not user and not password:
        return servers, {}
    return servers, {"user": user, "password": password} if colon else {"token": user}


def _server(text: str) -> str:
    parts = urlsplit(f"nats://{text}")
    if not parts.hostname or parts.path or parts.query or parts.fragment:
        raise ValueError("not host:port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or 4222}"
