"""NATS JetStream: the newest total of each user in a stream or a key-value bucket, never replaced by an older one."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import nats.errors
import nats.js.errors
import orjson
from nats.aio.client import Client, RawCredentials
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, Header
from pydantic import BaseModel, Field, FilePath, PositiveFloat, PositiveInt, model_validator

from creditsd.errors import ConfigError, SinkUnavailable
from creditsd.model import Total
from creditsd.sinks import Rejection

MAX_BATCH = 500  # each total costs two requests, all in flight at once, which must end within timeout_seconds
_CLOSE_SECONDS = 2.0
_SUBJECT_BYTES = 2000  # a server ends the connection at 4 096 bytes of subject, reply and command together
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

# Error codes of JetStream (server/errors.json of nats-server) that speak of the one message.
_TOO_LARGE = 10054
_WRONG_LAST_SEQUENCE = (10071, 10164)

# What the others mean for the person who runs the server.
_NO_JETSTREAM = "JetStream is not enabled: start nats-server with -js, and enable it for the account"
_NO_STORAGE = "it has no storage left for JetStream: give it more, or bound the stream"
_OTHER_STREAM = "another stream takes these subjects: set the option stream to its name, or choose another subject"
_MENDS = dict.fromkeys((10023, 10028, 10047), _NO_STORAGE) | {
    **dict.fromkeys((10039, 10076), _NO_JETSTREAM),
    **dict.fromkeys((10060, 10065), _OTHER_STREAM),
    10059: "its stream is gone: it is made again at the next try",
    10077: "its stream takes no more: raise its limits, or let it discard old messages",
}


class Options(BaseModel, extra="forbid"):
    """What can be set beside the url."""

    stream: str = Field(default="CREDITS", pattern=r"^[^\s.*>/\\]+$")
    subject: str = Field(default="credits", pattern=r"^[^\s.*>]+(\.[^\s.*>]+)*$")
    bucket: str = Field(default="", pattern=r"^[A-Za-z0-9_-]*$")
    max_msgs_per_subject: PositiveInt = 1
    replicas: int = Field(default=1, ge=1, le=5)
    token: str = ""
    creds: str = ""
    nkey: str = ""
    ca: str = ""
    client_certificate: FilePath | None = None
    timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_place_and_one_login(self) -> Options:
        given = self.model_fields_set
        if self.bucket and given & {"stream", "subject"}:
            raise ValueError("totals go to a bucket or to a stream: keep bucket, or stream and subject")
        if sum(map(bool, (self.token, self.creds, self.nkey))) > 1:
            raise ValueError("token, creds and nkey exclude each other: keep one")
        return self


@dataclass(frozen=True, slots=True)
class _Link:
    """One connection, and the future that tells why it is of no use any more."""

    client: Client
    jetstream: JetStreamContext
    lost: asyncio.Future[str]


class Nats:
    """A stream (or bucket) with a subject (or key) per user.

    Each total is stored on condition that the subject's last message is still the one whose version was just
    compared, so an older version cannot replace a newer one, whoever else is writing.
    """

    max_batch = MAX_BATCH

    def __init__(
        self, name: str, servers: Sequence[str], login: dict[str, str], tls: ssl.SSLContext | None, options: Options
    ) -> None:
        self._label = f"sink {name}: {','.join(servers)}"
        self._servers = [f"nats://{server}" for server in servers]
        self._login = login
        self._tls = tls
        self._options = options
        self._link: _Link | None = None
        self._secrets = [each for each in (*login.values(), options.token, options.nkey, options.creds) if each]
        self._stream = f"KV_{options.bucket}" if options.bucket else options.stream
        self._prefix = f"$KV.{options.bucket}." if options.bucket else f"{options.subject}."

    async def open(self) -> None:
        """Connect, and make the stream or bucket if there is none; one that exists is left as it is."""
        await self._connected()

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Store each total that is newer than the one held, all at once, and await every acknowledgement.

        Refused is a total too large for the server or the stream, one whose user id makes too long a subject,
        and one whose subject another program wrote to at the same moment.
        """
        if not totals:
            return []
        link = await self._connected()
        outcomes = await self._together(link, [self._store(link, total) for total in totals])
        return [outcome for outcome in outcomes if outcome is not None]

    async def held(self, user_id: str) -> int | None:
        """Read the version of the user's last message; None if there is none, or none of ours."""
        return (await self.held_many([user_id]))[0]

    async def held_many(self, user_ids: Sequence[str]) -> Sequence[int | None]:
        """Read the version of each user's last message, all at once."""
        link = await self._connected()
        found = await self._together(link, [self._last(link, self._prefix + encode_user(each)) for each in user_ids])
        return [version or None for _, version in found]

    async def forget(self, user_id: str) -> int:
        """Erase the user's messages, or the key with its history; return how many there were."""
        link = await self._connected()
        (erased,) = await self._together(link, [self._purge(link, self._prefix + encode_user(user_id))])
        return int(erased)

    async def close(self) -> None:
        """Close the connection, waiting 2 s at most for a server that does not let go."""
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(TimeoutError, nats.errors.Error, OSError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await link.client.close()

    async def _store(self, link: _Link, total: Total) -> Rejection | None:
        user = encode_user(total.user_id)
        subject = self._prefix + user
        if len(subject) > _SUBJECT_BYTES:
            return Rejection(total, f"the user id is too long: its subject has more than {_SUBJECT_BYTES} bytes")
        sequence, version = await self._last(link, subject)
        if sequence and version >= total.version:  # a test message has version 0, and is stored where nothing is
            return None
        headers: dict[str, Any] = {
            Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(sequence),
            Header.EXPECTED_STREAM.value: self._stream,
        }
        if not self._options.bucket:  # a key that was deleted by hand may be stored again at once
            headers[Header.MSG_ID.value] = f"{user}:{total.version}"
        try:
            await link.jetstream.publish(subject, total.json(), headers=headers)
        except nats.errors.MaxPayloadError:
            return Rejection(total, "the total is larger than the server's max_payload")
        except nats.js.errors.APIError as error:
            if error.err_code in _WRONG_LAST_SEQUENCE:
                return Rejection(total, "another program wrote to the same subject at the same moment", error.code)
            if error.err_code == _TOO_LARGE:
                return Rejection(total, "the total is larger than the stream's max_msg_size", error.code)
            raise
        return None

    async def _purge(self, link: _Link, subject: str) -> int:
        if len(subject) > _SUBJECT_BYTES:
            return 0
        timeout = self._options.timeout_seconds
        request = orjson.dumps({"filter": subject})
        answer = await link.client.request(f"$JS.API.STREAM.PURGE.{self._stream}", request, timeout=timeout)
        said = orjson.loads(answer.data)
        if "error" in said:
            raise nats.js.errors.APIError.from_error(said["error"])
        return int(said["purged"])

    async def _last(self, link: _Link, subject: str) -> tuple[int, int]:
        """Return sequence and version of the subject's last message, zeros if there is none.

        Asked of the stream's leader: a direct get may be answered by a replica that is behind.
        """
        if len(subject) > _SUBJECT_BYTES:
            return 0, 0
        try:
            message = await link.jetstream.get_last_msg(self._stream, subject)
        except nats.js.errors.NotFoundError as error:
            if error.err_code == 10037:  # no message found
                return 0, 0
            raise
        return message.seq or 0, _version(message.data or b"")

    async def _together(self, link: _Link, jobs: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
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
            raise SinkUnavailable(f"{self._label}: {link.lost.result()}")
        outcomes = work.result()
        failure = next((outcome for outcome in outcomes if isinstance(outcome, BaseException)), None)
        if failure is None:
            return outcomes
        await self.close()
        if isinstance(failure, nats.errors.Error | TimeoutError | OSError):
            raise self._unavailable(failure) from None
        raise failure

    async def _connected(self) -> _Link:
        """Return the connection, a new one if it was lost. Trying again after that is the publisher's."""
        if self._link is not None and not self._link.lost.done():
            return self._link
        await self.close()
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        client = Client()
        self._link = _Link(client, client.jetstream(timeout=self._options.timeout_seconds), lost)
        try:
            async with asyncio.timeout(self._options.connect_timeout_seconds):
                await self._connect(client, lost)
            await self._prepare(self._link.jetstream)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            await self.close()
            if lost.done() and isinstance(error, TimeoutError):
                raise SinkUnavailable(f"{self._label}: {lost.result()}") from None
            raise self._unavailable(error) from None
        except BaseException:
            await self.close()
            raise
        return self._link

    async def _connect(self, client: Client, lost: asyncio.Future[str]) -> None:
        async def on_closed() -> None:
            if not lost.done():
                lost.set_result("the connection was lost: is the server up?")

        async def on_error(error: Exception) -> None:
            if "permissions violation" in str(error).lower() and not lost.done():
                lost.set_result(
                    f"its user lacks rights ({self._said(error)}): publish on {self._prefix}* and $JS.API.>, "
                    "subscribe on _INBOX.>"
                )

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

    async def _prepare(self, jetstream: JetStreamContext) -> None:
        options = self._options
        try:
            await jetstream.stream_info(self._stream)
        except nats.js.errors.NotFoundError:
            if options.bucket:
                history, replicas = options.max_msgs_per_subject, options.replicas
                await jetstream.create_key_value(bucket=options.bucket, history=history, replicas=replicas)
                return
            await jetstream.add_stream(
                name=self._stream,
                subjects=[f"{self._prefix}*"],
                max_msgs_per_subject=options.max_msgs_per_subject,
                discard=DiscardPolicy.OLD,
                num_replicas=options.replicas,
            )

    def _unavailable(self, error: Exception) -> SinkUnavailable:
        match error:
            case nats.js.errors.APIError(err_code=int(code)) if code in _MENDS:
                meaning = _MENDS[code]
            case nats.js.errors.NoStreamResponseError():
                meaning = f"no stream takes {self._prefix}*: add it to the subjects of {self._stream}"
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
        return SinkUnavailable(f"{self._label}: {meaning}")

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


def create(name: str, url: str, options: Options) -> Nats:
    """Make the sink for a `nats:` or `nats+tls:` url; several servers are separated by commas. Raises ConfigError."""
    scheme = url.split(":", 1)[0].lower()
    if scheme not in ("nats", "nats+tls"):
        raise ConfigError(f"sink {name}: {scheme} is not supported: use nats or nats+tls")
    try:
        servers, login = _parsed(url)
    except ValueError:  # its text may quote the url, and with it the password
        raise ConfigError(
            f"sink {name}: the url is not {scheme}://[user:password@]host[:port][,host[:port] …]; "
            "special characters in the password must be percent-encoded"
        ) from None
    if login and (options.token or options.creds or options.nkey):
        raise ConfigError(f"sink {name}: the url has a login, and so do the options: keep one")
    return Nats(name, servers, login, _context(name, options) if scheme == "nats+tls" else None, options)


def _context(name: str, options: Options) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=options.ca or None)
    except (ssl.SSLError, ValueError):
        raise ConfigError(f"sink {name}: ca is not a certificate in PEM") from None
    if options.client_certificate is not None:
        try:
            context.load_cert_chain(options.client_certificate)
        except (ssl.SSLError, OSError):
            raise ConfigError(f"sink {name}: client_certificate is not a PEM file of certificate and key") from None
    return context


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


def _version(payload: bytes) -> int:
    """Read the version out of a message; whatever is no total of ours counts as 0 and is replaced."""
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return 0
    version = document.get("version") if isinstance(document, dict) else None
    return version if isinstance(version, int) else 0
