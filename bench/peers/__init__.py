"""What else could do it: trigger on user_credits, the user's total anew, SET and PUBLISH into Valkey. A file each.

Every file is also the peer's daemon: `python -m bench.peers.NAME DSN REDIS_URL` says "ready" once it listens.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from psycopg.conninfo import conninfo_to_dict

from tests.servers import Postgres

NAMES = ("handwritten", "batching", "with_procrastinate", "with_pgqueuer", "with_pg_sse", "graphile")

HANDWRITTEN = "hand-written"

# What all of them compute and write.
TOTAL = "SELECT sum(credits) FROM public.user_credits WHERE user_id = %b::uuid AND status = 'active'"


class Missing(Exception):  # noqa: N818  reads as the state it reports
    """This peer cannot be had here; says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """`install` makes its trigger in a filled database, `empty` is the SQL that forgets what waits."""

    name: str
    settings: str
    install: Callable[[Postgres, str], None]
    empty: str
    version: Callable[[], str]
    module: str


def peer(name: str) -> Peer:
    """Return one of NAMES. Raises Missing where what it needs is not installed."""
    try:
        module = importlib.import_module(f"bench.peers.{name}")
    except ImportError as error:
        raise Missing(f"{error}: pip install -e '.[bench]'") from error
    found = module.PEER
    assert isinstance(found, Peer)
    found.version()
    return found


def versions(*packages: str) -> str:
    """Name the installed versions of Python packages."""
    try:
        return ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    except metadata.PackageNotFoundError as error:
        raise Missing(f"{error.name} is not installed: pip install -e '.[bench]'") from error


def address(dsn: str) -> str:
    """Write a libpq string as the URL that other drivers read."""
    parts = conninfo_to_dict(dsn)
    return f"postgresql://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}"
