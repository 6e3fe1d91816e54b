"""Raises a lost connection as ConnectionError, whichever event loop reports it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


def named(error: BaseException) -> BaseException:
    """Return a ConnectionResetError where a client library has written to a transport that was closed under it.

    uvloop says that by a RuntimeError, which no library expects of a socket. Any other error is returned as it is.
    """
    if isinstance(error, RuntimeError) and "the handler is closed" in str(error):
        return ConnectionResetError("the connection was lost")
    return error


@contextlib.contextmanager
def loss_named() -> Iterator[None]:
    """Raise what `named` makes of an error."""
    try:
        yield
    except RuntimeError as error:
        raise named(error) from error.__cause__
