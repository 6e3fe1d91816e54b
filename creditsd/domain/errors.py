"""What can go wrong, sorted by the one question that matters: try again or not."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self


class CreditsdError(Exception):
    """A failure with one clear line for people; this class itself means a bug of ours."""

    exit_code = 70  # EX_SOFTWARE of sysexits


class ConfigError(CreditsdError):
    """The settings are wrong: do not try again. Says which one, and the mend."""

    exit_code = 78  # EX_CONFIG


class SchemaError(CreditsdError):
    """The database lacks or contradicts what we need: do not try again. Says the mend."""

    exit_code = 78  # EX_CONFIG


class NotAgreed(SchemaError):  # noqa: N818  reads as the state it reports
    """What was asked for takes something away from somebody, who may not mean it: do it once a person has agreed."""


class DatabaseUnavailable(CreditsdError):  # noqa: N818  reads as the state it reports
    """PostgreSQL cannot be reached or went away: try again."""

    exit_code = 69  # EX_UNAVAILABLE


class LockNotFree(DatabaseUnavailable):
    """A lock that was not free within the time that we wait for one."""


class DaemonUnavailable(CreditsdError):  # noqa: N818  reads as the state it reports
    """No daemon answers here, or the one that does is not ready: try again."""

    exit_code = 69  # EX_UNAVAILABLE


class SessionEnded(DatabaseUnavailable):
    """The server ended a session that was at rest, as one does that is suspended while nobody asks.

    Connect again at `again_at` of the monotonic clock: any sooner would wake it for nothing.
    """

    again_at = 0.0


class SinkUnavailable(CreditsdError):  # noqa: N818  reads as the state it reports
    """Nothing of the batch is known to have arrived: try the same batch again."""

    exit_code = 69  # EX_UNAVAILABLE


class SinkRejected(CreditsdError):  # noqa: N818  reads as the state it reports
    """The sink refused this one delivery; others may pass."""

    exit_code = 69  # EX_UNAVAILABLE


class RowsError(CreditsdError):
    """One user's rows cannot be summed up: do not try again before they change. All others can."""

    exit_code = 65  # EX_DATAERR

    def __init__(self, said: str, user_id: str = "") -> None:
        super().__init__(said)
        self.user_id = user_id


class InputError(CreditsdError):
    """What was asked for is not there, or cannot be: an id that is none, a sink nobody knows."""

    exit_code = 65  # EX_DATAERR

    @classmethod
    def unknown(cls, what: str, name: str, known: Sequence[str]) -> Self:
        """Say that there is none of this name, and the nearest there is; few are all listed."""
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        listed = f"there are {', '.join(known[:10])}{', …' if len(known) > 10 else ''}" if known else "there is none"
        return cls(f"no {what} {name!r}: {f'did you mean {near[0]}?' if near else listed}")


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise the first error of a group in its place; the others are its echoes. A bug among them keeps the group.

    Written with a plain `except`: Python 3.11.2 wraps what is raised inside `except*` into a group again.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        if group.split(CreditsdError)[1] is not None:
            raise
        raise first from None
