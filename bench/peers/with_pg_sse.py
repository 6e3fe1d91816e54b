"""pg-sse's capture: its own trigger, and its hub subscribed to every key; totals go to Valkey instead of browsers."""

from __future__ import annotations

import logging
import math
import sys

import pg_sse
import uvloop

from bench.peers import Peer, versions
from bench.peers.totals import Totals
from tests.servers import Postgres

# Its default of 64 ends a subscription that falls behind; a burst of a large statement is longer.
QUEUE_SIZE = 1_000_000


async def run(dsn: str, url: str) -> None:
    logging.disable(logging.WARNING)
    totals = Totals(dsn, url, 1)
    await totals.open()
    hub = pg_sse.Hub(dsn, "user_credits", queue_size=QUEUE_SIZE, max_stream_seconds=math.inf, handle_signals=False)
    async with hub.lifespan(None):
        subscription = hub.subscribe(None)
        print("ready", flush=True)
        while True:
            items = await subscription.wait(60)
            if subscription.ended:
                raise SystemExit("pg-sse ended the subscription: it fell behind")
            # Level, not edge, as it is meant: whoever is named twice in one wake-up is read once.
            for user_id in dict.fromkeys(item[1] for item in items or () if item[0] == "notify"):
                await totals.publish(user_id)


def install(server: Postgres, dbname: str) -> None:
    server.psql(pg_sse.trigger_sql("public.user_credits", "user_id", "user_credits"), dbname=dbname)


PEER = Peer(
    name="pg-sse's capture",
    settings="its trigger_sql (row, NOTIFY with the key), one hub subscribed to every key, queue_size 1 000 000",
    install=install,
    empty="",
    version=lambda: versions("pg-sse"),
    module="bench.peers.with_pg_sse",
)

if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2]))
