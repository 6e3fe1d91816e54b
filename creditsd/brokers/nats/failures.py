"""What an error of NATS or JetStream means for the person who runs the server."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import nats.errors
import nats.js.errors

from creditsd.domain.errors import CreditsdError

FAILURES = (nats.errors.Error, TimeoutError, OSError)

# What error codes of JetStream (server/errors.json of nats-server) mean for the person who runs the server.
_NO_JETSTREAM = "JetStream is not enabled: start nats-server with -js, and enable it for the account"
_NO_STORAGE = "it has no storage left for JetStream: give it more, or bound the stream"
_OTHER_STREAM = "another stream takes these subjects: set the option stream to its name, or choose another subject"
_MENDS = dict.fromkeys((10023, 10028, 10047), _NO_STORAGE) | {
    **dict.fromkeys((10039, 10076), _NO_JETSTREAM),
    **dict.fromkeys((10060, 10065), _OTHER_STREAM),
    10077: "its stream takes no more: raise its limits, or let it discard old messages",
}
_STREAM_NOT_FOUND = 10059

_KINDS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((nats.js.errors.ServiceUnavailableError, nats.errors.NoRespondersError), _NO_JETSTREAM),
    (
        (nats.errors.SecureConnRequiredError,),
        "it offers no TLS: configure it there, or use nats:// on a line you trust",
    ),
    ((nats.errors.NoServersError, ConnectionError), "cannot be reached: is it up, and is the address right?"),
    ((nats.errors.TimeoutError, TimeoutError), "no answer in time: is it up, and is the address right?"),
)


@dataclass(frozen=True, slots=True)
class User:
    """Who connects: what it is called in errors, the kind of error it raises, and the rights it needs."""

    name: str
    unavailable: type[CreditsdError]
    rights: str
    no_stream: str


def meaning(error: Exception, said: str, user: User, *, stream: str, subjects: str) -> str:
    """Say in a few words what is wrong and how to mend it; `said` is the error's own text, fit to be shown."""
    code = error.err_code if isinstance(error, nats.js.errors.APIError) else None
    if code in _MENDS:
        return _MENDS[code]
    if code == _STREAM_NOT_FOUND:
        return user.no_stream
    if isinstance(error, nats.js.errors.NoStreamResponseError):
        return f"no stream takes {subjects}: add it to the subjects of {stream}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}): set ca_file to what signed it"
    known = next((words for kinds, words in _KINDS if isinstance(error, kinds)), None)
    if known is None and "authorization" in f"{type(error).__name__} {error}".lower():
        return "it refuses the user, password, token or key: mend the url or the credentials"
    return known or said or type(error).__name__
