"""What a service in Python reads totals with: one at a time, or as a stream of every newer one.

from creditsd_client import Credits

async with Credits("https://credits.example.com", api_key=key) as credits:
    total = await credits.read("11111111-1111-4111-8111-111111111111")
    async for total in credits.stream(total.user_id):
        print(total.credits, total.message)

Code that does not run in an event loop has the same without `async` and `await`: BlockingCredits.
"""

from __future__ import annotations

from creditsd_client.blocking import BlockingCredits, BlockingStream
from creditsd_client.credits import Credits, TokenProvider
from creditsd_client.errors import (
    ClientError,
    ClosedError,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    ReplacedError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
)
from creditsd_client.stream import State, Stream
from creditsd_client.total import Total

__all__ = [
    "BlockingCredits",
    "BlockingStream",
    "ClientError",
    "ClosedError",
    "Credits",
    "ForbiddenError",
    "NotFoundError",
    "RefusedError",
    "ReplacedError",
    "State",
    "Stream",
    "TokenProvider",
    "TooManyRequestsError",
    "Total",
    "UnauthorizedError",
    "UnavailableError",
]
