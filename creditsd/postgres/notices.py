"""Logs what our functions in the database say: each kind of notice is an event of its own."""

from __future__ import annotations

import psycopg
import structlog

log = structlog.get_logger()

PREFIX = "creditsd "
EVENTS = {
    "sets ": "balances.user_set_aside",
    "could not expire ": "balances.expiry_failed",
    "would expire ": "balances.would_expire",
    "could not open the history's ": "history.open_failed",
    "could not drop the history's ": "history.drop_failed",
}
"""How a notice begins after the prefix, and the event that it is."""


def log_notice(notice: psycopg.errors.Diagnostic) -> None:
    """Log a notice of ours, a warning as one; anybody else's is passed over."""
    primary = notice.message_primary or ""
    if not primary.startswith(PREFIX):
        return
    message = primary.removeprefix(PREFIX)
    say = log.warning if notice.severity_nonlocalized == "WARNING" else log.info
    say(event_of(message), message=message)


def event_of(message: str) -> str:
    """Return the event that a notice is; a daemon older than the schema may not know it."""
    return next((event for start, event in EVENTS.items() if message.startswith(start)), "database.noticed")
