"""What a client may have to deal with, sorted by whether trying again can help."""

from __future__ import annotations


class ClientError(Exception):
    """Anything that reading totals can end with."""


class UnavailableError(ClientError):
    """Nobody answered as creditsd does: try again. A stream does so by itself.

    `retry_after_seconds` is what the server asked for, if it did.
    """

    def __init__(self, line: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(line)
        self.retry_after_seconds = retry_after_seconds


class TooManyRequestsError(UnavailableError):
    """429: this caller or this address asks faster than the server allows."""


class RefusedError(ClientError):
    """The server understood and said no: the same question gets the same answer. `status` is HTTP's."""

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


class UnauthorizedError(RefusedError):
    """401: no key or token, or one that does not count any more."""


class ForbiddenError(RefusedError):
    """403: a good key or token, but not for this user."""


class NotFoundError(RefusedError):
    """404: there is nothing at this address. A user nobody has heard of is no such case: that one has zero credits."""


class ReplacedError(ClientError):
    """This user opened more streams than the server allows, and it closed this one, the oldest, for a newer."""


class ClosedError(ClientError):
    """The client was closed before it was asked: make a new one. A closed client opens no connection again."""
