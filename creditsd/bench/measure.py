"""What a trigger costs on this server: none, one that notifies, and creditsd's, turn by turn in a scratch schema."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from creditsd.bench.load import Slice, WriteLoad
from creditsd.bench.schema import SCHEMA, BenchSchema
from creditsd.config.settings import Settings
from creditsd.postgres import sql_files

ROWS = 20_000  # as sql/bench/tables.sql makes them
ROUNDS = 5
WARM_UP_SECONDS = 0.1

PLAIN, NOTIFY, CAPTURE = "none", "NOTIFY", "creditsd"
TABLES = {PLAIN: "plain", NOTIFY: "notifying", CAPTURE: "captured"}

# Below, commits wait for each other; measured on PostgreSQL 15 and 18, where nothing else costs a trigger so much.
_QUEUED = 0.7
_OUR_LIMIT = 0.9
_UNSTEADY = 1.5


@dataclass(frozen=True, slots=True)
class Cell:
    """One variant at so many clients; rates in writes a second, a round each, times over all rounds."""

    clients: int
    variant: str
    rates: list[float]
    p50_ms: float
    p99_ms: float
    processor_share: float

    @property
    def rate(self) -> float:
        """Return the median of the rounds."""
        return statistics.median(self.rates)


@dataclass(frozen=True, slots=True)
class Findings:
    """Every cell, and what the server is."""

    version: str
    flushes: bool
    cells: list[Cell]

    def cell(self, clients: int, variant: str) -> Cell:
        """Return one cell."""
        return next(cell for cell in self.cells if (cell.clients, cell.variant) == (clients, variant))

    def ratio(self, clients: int, variant: str, to: str = PLAIN) -> float:
        """Return the median of the ratios round by round: what slowed the server down in a round slowed both."""
        pairs = zip(self.cell(clients, variant).rates, self.cell(clients, to).rates, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    @property
    def clients(self) -> list[int]:
        """Return the numbers of clients, ascending."""
        return sorted({cell.clients for cell in self.cells})

    def advice(self) -> list[str]:
        """Say what follows from the figures, one sentence or two a line."""
        most = self.clients[-1]
        lines = [self._of_capture(most), self._of_notify(most)]
        plain = [self.cell(clients, PLAIN) for clients in self.clients]
        if max(cell.processor_share for cell in self.cells) >= _OUR_LIMIT:
            lines.append(
                "Here the bench itself needed a whole processor: the server can do more than this, and what is "
                "between the variants is understated. Run it on a machine of its own."
            )
        if any(max(cell.rates) > _UNSTEADY * min(cell.rates) for cell in plain):
            lines.append("The rounds lie far apart, so others use this server too: raise --seconds to trust a ratio.")
        lines.append("The daemon is not in these figures: it reads what the trigger noted, on processors it may share.")
        return lines

    def _of_capture(self, most: int) -> str:
        more = (self.cell(1, CAPTURE).p50_ms - self.cell(1, PLAIN).p50_ms) * 1000
        added = f"adds about {more:.0f} µs to a write" if more >= 1 else "adds nothing that shows to a write"
        return f"creditsd's trigger {added}, and keeps {self.ratio(most, CAPTURE):.0%} of the rate at {_clients(most)}."

    def _of_notify(self, most: int) -> str:
        kept, rate = self.ratio(most, NOTIFY), self.cell(most, NOTIFY).rate
        if kept < _QUEUED:
            return (
                f"A trigger with NOTIFY would cap all writers together at about {grouped(rate)} writes/s: commits that "
                f"notify take turns at one lock of the whole cluster, through every flush. With creditsd's they make "
                f"{self.ratio(most, CAPTURE, NOTIFY):.1f} times that."
            )
        if not self.flushes:
            why = "commits flush nothing here (fsync or synchronous_commit is off), which hides what NOTIFY costs"
        else:
            why = "it is queues of commits that cost, so more --clients may tell"
        return f"A trigger with NOTIFY keeps {kept:.0%} of the rate at {_clients(most)}: {why}."

    def document(self) -> dict[str, Any]:
        """Return all of it as JSON knows it."""
        return {
            "server_version": self.version,
            "flushes": self.flushes,
            "cells": [
                {
                    "clients": cell.clients,
                    "variant": cell.variant,
                    "writes_per_second": [round(rate, 1) for rate in cell.rates],
                    "ratio": round(self.ratio(cell.clients, cell.variant), 4),
                    "p50_ms": round(cell.p50_ms, 4),
                    "p99_ms": round(cell.p99_ms, 4),
                    "processor_share": round(cell.processor_share, 3),
                }
                for cell in self.cells
            ],
            "advice": self.advice(),
        }


async def measure(
    settings: Settings,
    *,
    clients: int,
    seconds: float,
    announce: Callable[[], None],
    progress: Callable[[int, int], None],
) -> Findings:
    """Measure one client and `clients`, for so many seconds in all; leaves nothing behind. Announces the first write.

    Raises ConfigError, SchemaError, InputError or DatabaseUnavailable.
    """
    async with BenchSchema.opened(settings, clients=clients, announce=announce) as schema:
        statements = {variant: _change(table) for variant, table in TABLES.items()}
        # They end before the schema goes: nobody drops a table that is being written to.
        with WriteLoad(settings.direct_dsn, clients, statements, ROWS) as load:
            return await _rounds(schema, load, sorted({1, clients}), seconds, progress)


async def _rounds(
    schema: BenchSchema, load: WriteLoad, clients: Sequence[int], seconds: float, progress: Callable[[int, int], None]
) -> Findings:
    """Let the variants take turns within a round, and another one begin each round."""
    slices: dict[tuple[int, str], list[Slice]] = {(some, variant): [] for some in clients for variant in TABLES}
    each = seconds / (len(slices) * ROUNDS)
    for variant in TABLES:
        await asyncio.to_thread(load.write, variant, clients[-1], min(WARM_UP_SECONDS, each))
    for turn in range(ROUNDS):
        for some in clients:
            for variant in _rotated(list(TABLES), turn):
                await schema.tidy()
                slices[some, variant].append(await asyncio.to_thread(load.write, variant, some, each))
                progress(sum(map(len, slices.values())), len(slices) * ROUNDS)
    cells = [_cell(some, variant, found) for (some, variant), found in slices.items()]
    return Findings(schema.server.version, schema.server.flushes, cells)


def _cell(clients: int, variant: str, slices: Sequence[Slice]) -> Cell:
    taken = sorted(each for one in slices for each in one.taken_seconds)
    return Cell(
        clients=clients,
        variant=variant,
        rates=[one.rate for one in slices],
        p50_ms=taken[len(taken) // 2] * 1000,
        p99_ms=taken[len(taken) * 99 // 100] * 1000,
        processor_share=statistics.median(one.processor_share for one in slices),
    )


def _change(table: str) -> str:
    return sql_files.filled("bench/change", SCHEMA, table=sql.Identifier(SCHEMA, table))


def _rotated(variants: Sequence[str], turn: int) -> list[str]:
    start = turn % len(variants)
    return [*variants[start:], *variants[:start]]


def grouped(rate: float) -> str:
    """Write a number with its thousands apart."""
    return f"{rate:,.0f}".replace(",", " ")


def _clients(number: int) -> str:
    return "1 client" if number == 1 else f"{number} clients"
