"""Names the loss of a connection the same, whichever event loop tells of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def loss_named() -> Iterator[None]:
    """Raise ConnectionResetError where a client library has written to a transport that was closed under it.

    uvloop says that by a RuntimeError, which no library expects of a socket. Any other one is a bug, and passes.
    """
    try:
        yield
    except RuntimeError as error:
        if "the handler is closed" in str(error):
            raise ConnectionResetError("the connection was lost") from error
        raise
