"""What every part of the bench stands on: the servers, the filled tables, and how long it may take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import psycopg
from rich.console import Console

from bench.load import fill
from tests.servers import Postgres, Valkey

T = TypeVar("T")

HELD = "held open"
FREE = "not"


@dataclass(frozen=True, slots=True)
class Pace:
    """How often each thing is measured, and how long each time."""

    rounds: int
    seconds: float


@dataclass(slots=True)
class Ground:
    """The servers of one run, shared by its parts."""

    server: Postgres
    valkey: Valkey
    console: Console
    quick: bool = False
    large: bool = False
    _templates: set[str] = field(default_factory=set)

    def say(self, text: str) -> None:
        """Tell how far it is."""
        self.console.print(f"[dim]  {text}", highlight=False)

    def filled(self, name: str, *, rows: int, users: int) -> str:
        """Create a database whose reference table is full, replacing one of that name; return its address."""
        template = f"filled_{rows}_{users}"
        if template not in self._templates:
            fill(self.server, template, rows=rows, users=users)
            self._templates.add(template)
        self.server.drop_database(name)
        return self.server.create_database(name, template)

    def drop(self, *names: str) -> None:
        """Give the space back."""
        for name in names:
            self.server.drop_database(name)

    def sized(self, full: int, quick: int) -> int:
        """Choose a size: the one the figures are made with, or the one that shows that it works."""
        return quick if self.quick else full


def rotated(all_of_them: Sequence[T], turn: int) -> list[T]:
    """Let another one go first in each round."""
    start = turn % len(all_of_them)
    return [*all_of_them[start:], *all_of_them[:start]]


@contextmanager
def held_open(dsn: str) -> Iterator[None]:
    """Hold a transaction open that has a snapshot and has written, elsewhere: it holds back every vacuum."""
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("CREATE TABLE IF NOT EXISTS public.elsewhere (note text)")
        connection.commit()
        connection.execute("INSERT INTO public.elsewhere VALUES ('a report that runs for hours')")
        yield
        connection.rollback()
