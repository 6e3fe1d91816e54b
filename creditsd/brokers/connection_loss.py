"""Raises a lost connection as ConnectionError, whichever event loop reports it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType


def named(error: BaseException) -> BaseException:
    """Return a ConnectionResetError where a client library has written to a transport that was closed under it.

    uvloop says that by a RuntimeError, which no library expects of a socket. Any other error is returned as it is.
    """
    if isinstance(error, RuntimeError) and "the handler is closed" in str(error):
        return ConnectionResetError("the connection was lost")
    return error


def loss_named() -> AbstractContextManager[None]:
    """Raise what `named` makes of an error."""
    return _LOSS_NAMED


class _LossNamed(AbstractContextManager[None]):
    """Keeps nothing, so that there is one for all: each request of a webhook enters it."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise a lost connection by its name."""
        if isinstance(error, RuntimeError) and (lost := named(error)) is not error:
            raise lost from error.__cause__


_LOSS_NAMED = _LossNamed()
