"""The metrics that are exported are those of docs/http.md, by the same names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest

from creditsd.domain.total import Total
from creditsd.metrics.collectors import DaemonCollector
from creditsd.metrics.counters import FeedMetrics, HttpMetrics, LineMetrics, SinksMetrics
from creditsd.metrics.registry import registry

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")


def documented() -> set[str]:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `creditsd_")]
    return {name for row in rows for name in re.findall(r"`(creditsd_\w+)", row)}


@dataclass(frozen=True)
class AtRest:
    """A line with nothing to do."""

    state: str = "leading"
    rings: bool = True
    doorbell: str | None = None
    table_watched: bool = True
    behind_seconds: float = 0.0
    snapshot: str | None = None


def everything() -> Any:
    """A registry with all that a daemon and a gateway export."""
    made = registry()
    HttpMetrics(made)
    LineMetrics(made)
    SinksMetrics(made)
    FeedMetrics(made)
    DaemonCollector(made, [], AtRest(), {})
    return made


def test_what_is_exported_is_documented_and_what_is_documented_is_exported() -> None:
    families = [family for family in everything().collect() if family.name.startswith("creditsd_")]
    exported = {family.name + {"counter": "_total", "info": "_info"}.get(family.type, "") for family in families}
    assert exported == documented()
    assert all(family.documentation for family in families)


def test_counters_tell_how_many_and_not_since_when() -> None:
    made = everything()
    assert b"process_resident_memory_bytes" in generate_latest(made)
    assert b"_created" not in generate_latest(made)


def test_a_drain_that_found_nothing_is_not_timed_and_totals_are_counted_by_cause() -> None:
    made = registry()
    line = LineMetrics(made)
    line.drained(changes=0, users=0, totals=[], seconds=9.0)
    line.drained(changes=3, users=2, totals=[], seconds=0.002)
    line.stored([Total.nothing("a"), Total.nothing("b"), Total.nothing("c")._replace(cause="expiry")])
    told = made.get_sample_value
    assert told("creditsd_changes_read_total") == 3
    assert told("creditsd_users_recomputed_total") == 2
    assert told("creditsd_drain_seconds_count") == 1
    assert told("creditsd_drain_seconds_bucket", {"le": "0.0025"}) == 1
    assert told("creditsd_drain_seconds_bucket", {"le": "0.001"}) == 0
    assert told("creditsd_totals_stored_total", {"cause": "change"}) == 2
    assert told("creditsd_totals_stored_total", {"cause": "expiry"}) == 1
