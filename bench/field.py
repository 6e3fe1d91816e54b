"""creditsd among what a user would otherwise pick, all doing the same work: writers, latency, totals a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.contenders import CREDITSD, HANDWRITTEN, ROWS, Contender, contenders, presented, running
from bench.figure import figure, grouped
from bench.ground import Ground, Pace, rotated
from bench.latency import block, described, row
from bench.load import Writers, flush
from bench.peers import NAMES
from bench.sheet import Sheet
from bench.totals import sustained

CLIENTS = 16
RATES = (0, 100, 1_000)
BURST = 20_000


def measure(ground: Ground, pace: Pace) -> dict[str, Any]:
    """Let each do everything while it runs alone; within a round they take turns."""
    with contenders(ground, NAMES) as all_of_them:
        found: dict[str, dict[str, Any]] = {
            contender.name: {"tps": [], "latency": {str(rate): [] for rate in RATES}, "totals_per_second": []}
            for contender in all_of_them
        }
        for turn in range(pace.rounds):
            for contender in rotated(all_of_them, turn):
                one(ground, contender, found[contender.name], pace)
            ground.say(f"round {turn + 1}: done")
    return {"peers": presented(), "contenders": found}


def one(ground: Ground, contender: Contender, into: dict[str, Any], pace: Pace) -> None:
    """Measure latency, a burst, and what the writers have left; what a peer did not get to is forgotten between."""
    with running(contender):
        for rate in RATES:
            into["latency"][str(rate)].append(block(contender, rate, pace.seconds))
    into["totals_per_second"].append(sustained(contender, pace.seconds, BURST))
    flush(ground.server, "slow")
    with running(contender):
        into["tps"].append(Writers(CLIENTS, ROWS).write(ground.server, dbname(contender), pace.seconds))
    flush(ground.server, "ordinary")


def dbname(contender: Contender) -> str:
    return contender.dsn.rpartition("dbname=")[2].split()[0]


def sheets(found: Mapping[str, Any]) -> list[Sheet]:
    contenders_ = found["contenders"]
    ours = contenders_[CREDITSD]
    rows = []
    for name, each in contenders_.items():
        tps, totals = figure(each["tps"]), figure(each["totals_per_second"])
        ratios = (figure(ours[key]).ratio_to(figure(each[key])).as_ratio() for key in ("tps", "totals_per_second"))
        rows.append([name, str(tps), str(totals), *(ratios if name != CREDITSD else ("", ""))])
    head = ["", f"writers' tps, {CLIENTS} clients, slow flush", "totals/s", "creditsd's tps /", "creditsd's totals /"]
    made = [Sheet(f"its daemon running; totals from a burst of {grouped(BURST)} users", head, rows)]
    rows = []
    for rate in RATES:
        floor = contenders_[HANDWRITTEN]["latency"][str(rate)] if HANDWRITTEN in contenders_ else None
        for number, (name, each) in enumerate(contenders_.items()):
            blocks = each["latency"][str(rate)]
            rows.append([described(rate) if number == 0 else "", *row(name, blocks, floor)])
    head = ["changes", "", "p50 ms", "p99 ms", "p50 / hand-written", "p99 / hand-written", ""]
    made.append(Sheet("from a commit to a Redis subscriber: median (lowest-highest)", head, rows))
    said = [[each["peer"], each["version"], each["settings"]] for each in found["peers"]]
    return [*made, Sheet("the peers, and how they are set", ["", "version", "settings"], said)]
