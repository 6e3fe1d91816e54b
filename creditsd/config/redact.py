"""Takes the secrets out of what people get to see."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

REDACTED = "***"

_SECRET_NAME = re.compile(r"secret|passw|token|key|creds", re.IGNORECASE)
_SECRET_LOG_KEY = re.compile(r"secret|passw|token|api_?key", re.IGNORECASE)

# The last @ ends user and password, although RFC 3986 says the first: whoever forgot to escape an @ or a /
# in a password shall not read it in the log. A text that is one URL may even have spaces in there.
_WHOLE_URL = re.compile(r"\s*(postgres(?:ql)?://)(.*)@", re.IGNORECASE | re.DOTALL)
_URL = re.compile(r"\b([a-z][a-z0-9+.-]*://)(\S*)@(\S*)", re.IGNORECASE)
_AMBIGUOUS = re.compile(r"[/?#]")

# libpq's keyword = value: the value may be quoted, and a backslash takes the next character as it is.
_KEYWORD = re.compile(
    r"(?<![?&\w])(\w*(?:password|secret|token)\w*)\s*=\s*('(?:\\.|[^'\\])*'?|(?:\\.|[^\s\\])+)",
    re.IGNORECASE | re.DOTALL,
)
_PARAMETER = re.compile(r"([?&][^=&\s]*=)[^&\s]+")
_QUERY = re.compile(r"([?&][^=&\s]*(?:password|secret|token|key)[^=&\s]*=)[^&\s]+", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Tell whether a setting, option or log key of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


def is_secret_log_key(name: str) -> bool:
    """Tell the same of a log event's key, where a plain `key` is most often one of Redis."""
    return _SECRET_LOG_KEY.search(name) is not None


def redact_dsn(text: str) -> str:
    """Redact every password in a connection string, or in any text that quotes one.

    Knows URLs and libpq's keyword strings. A PostgreSQL URL keeps the user's name, which errors are often
    about; elsewhere what stands before the @ may be a token and goes whole. Redacts too much, never too little.
    """
    text = _WHOLE_URL.sub(_without_password, text, count=1) if _WHOLE_URL.match(text) else text
    text = _URL.sub(_without_login, text)
    text = _KEYWORD.sub(rf"\1={REDACTED}", text)
    return _QUERY.sub(rf"\1{REDACTED}", text)


def redact_url(url: str) -> str:
    """Redact a url that somebody has set: the login, and the value of every parameter, whatever that is called."""
    return _PARAMETER.sub(rf"\1{REDACTED}", redact_dsn(url))


def redact(name: str, value: Any, secret: Callable[[str], bool] = is_secret) -> Any:
    """Return a copy of what is called `name` with every secret in it redacted; nothing else changes."""
    if secret(name):
        return redact_whole(value)
    match value:
        case str():
            return redact_dsn(value)
        case Mapping():
            return {key: redact(str(key), inner, secret) for key, inner in value.items()}
        case list() | tuple():
            return [redact(name, inner, secret) for inner in value]
        case _:
            return value


def redact_whole(value: Any) -> Any:
    """Return what stands for a secret: how many there are may be seen, and that there is none."""
    match value:
        case None | "" | bool():
            return value
        case list() | tuple():
            return [REDACTED for _ in value]
        case _:
            return REDACTED


def _without_password(match: re.Match[str]) -> str:
    scheme, userinfo = match[1], match[2]
    user, colon, _ = userinfo.partition(":")
    return f"{scheme}{user}:{REDACTED}@" if colon else f"{scheme}{userinfo}@"


def _without_login(match: re.Match[str]) -> str:
    """Mask what stands before the @, unless it is how our own errors write that a login belongs there.

    Where that may be a path, what is behind the @ is no server: it goes too, so that nobody takes it for one.
    """
    scheme, userinfo, rest = match[1], match[2], match[3]
    if userinfo in ("user:password", "[user:password"):
        return match[0]
    if scheme.lower().startswith("postgres"):
        return _without_password(match) + rest
    return f"{scheme}{REDACTED}" if _AMBIGUOUS.search(userinfo) else f"{scheme}{REDACTED}@{rest}"
