"""Why there is no connection, in one line that says what to do: wrong settings, or a server that is away."""

from __future__ import annotations

import re

import psycopg

from creditsd.config.redact import redact_dsn
from creditsd.domain.errors import ConfigError, DatabaseUnavailable

# What the server says when the settings are wrong; the driver gives no code for a connection that never was.
_WRONG_SETTINGS = (
    "password authentication failed",
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "could not translate host name",
    "definition of service",
    "is not permitted to log in",
    "permission denied for database",
    "invalid port number",
    "Servname not supported",
    "invalid sslmode",
    "unsupported startup parameter",
)

# What most often is behind it, where the words tell: a pattern, and the hint.
_HINTS = {
    r'Peer authentication failed for user "(.+?)"': r"this socket lets in the account \1 alone: "
    r"`runuser -u \1 -- creditsd ...` with CREDITSD_DSN set, or take host=localhost and a password",
    "no password supplied": "CREDITSD_DSN takes one, or ~/.pgpass",
    r'role ".+?" does not exist': "name another user in CREDITSD_DSN, e.g. the owner of the table",
}


def not_connected(error: psycopg.OperationalError, dsn: str) -> ConfigError | DatabaseUnavailable:
    """Return what to raise for a connection that never was; no line holds a password."""
    line = redact_dsn(first_line(error))
    for pattern, hint in _HINTS.items():
        if found := re.search(pattern, line):
            return ConfigError(f"{line}: {found.expand(hint)}")
    if any(words in line for words in _WRONG_SETTINGS):
        return ConfigError(f"{line}: check CREDITSD_DSN")
    if not dsn:
        return DatabaseUnavailable(
            f"{line}: no dsn is set, so libpq's own variables say where PostgreSQL is: set CREDITSD_DSN, or, "
            "where only the systemd unit has it: sudo CREDITSD_DSN_FILE=/etc/creditsd/dsn creditsd ..."
        )
    return DatabaseUnavailable(f"{line}: is PostgreSQL running, and is CREDITSD_DSN right?")


def first_line(error: BaseException) -> str:
    """Return the message in one line, without the driver's hints."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].removeprefix("connection failed: ") if lines else type(error).__name__
