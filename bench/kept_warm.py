"""What `keep_warm_seconds` gains and costs: one change after the other, some 27 a second, with it and without.

Run as `python -m bench.kept_warm`. The daemons and the hand-written one stay up beside each other, and take turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from contextlib import ExitStack

from rich.console import Console

from bench.contenders import CREDITSD, HANDWRITTEN, ROWS, Contender, Ours, Theirs
from bench.figure import figure
from bench.ground import Ground, rotated
from bench.latency import idle
from bench.load import SERVER_SETTINGS
from bench.peers import peer
from bench.processor import server_seconds
from tests.servers import Postgres, Valkey

WARM = "kept warm"
WARM_SECONDS = "0.06"
MEASURED = {"p50": "p50 ms", "p99": "p99 ms", "core": "of a processor, PostgreSQL's included, %"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.kept_warm", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5, help="of each turn")
    options = parser.parse_args()
    with Postgres(settings=SERVER_SETTINGS) as server, Valkey() as valkey, ExitStack() as ends:
        ground = Ground(server, valkey, Console())
        own = [ends.enter_context(Valkey()) for _ in range(3)]
        all_of_them: dict[str, Contender] = {
            HANDWRITTEN: Theirs(ground, own[0], peer("handwritten"), ROWS),
            CREDITSD: Ours(ground, own[1], "usual", ROWS),
            WARM: Ours(ground, own[2], "warm", ROWS, keep_warm_seconds=WARM_SECONDS),
        }
        for each in all_of_them.values():
            each.start()
            ends.callback(each.stop)
        turns = [
            {name: turn(ground, all_of_them[name], options.seconds) for name in rotated(list(all_of_them), number)}
            for number in range(options.rounds)
        ]
        for key, about in MEASURED.items():
            figures = {name: figure([each[name][key] for each in turns]) for name in all_of_them}
            for name, found in figures.items():
                ratios = ", ".join(
                    f"{found.ratio_to(figures[other]).as_ratio()} of {other}" for other in (HANDWRITTEN, CREDITSD)
                )
                ground.say(f"{about}, {name}: {found.as_ratio()}; {ratios}")


def turn(ground: Ground, contender: Contender, seconds: float) -> Mapping[str, float]:
    """Measure one for so long."""
    before, begun = spent(ground.server, contender), time.perf_counter()
    late = idle(contender.dsn, contender.valkey, seconds)
    used, passed = spent(ground.server, contender) - before, time.perf_counter() - begun
    return {"p50": late["p50"], "p99": late["p99"], "core": used * 100 / passed}


def spent(server: Postgres, contender: Contender) -> float:
    """Return the processor seconds of the server, and of a daemon of ours."""
    ours = contender.line.processor_seconds() if isinstance(contender, Ours) else 0.0
    return server_seconds(server.pid) + ours


if __name__ == "__main__":
    main()
