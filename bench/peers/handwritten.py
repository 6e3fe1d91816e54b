"""The daemon anyone writes by hand, at its best: NOTIFY with the user's id, SELECT, SET and PUBLISH in one round trip.

It is the floor of latency, too. It may miss, double and reorder, and forgets what came while it was down.
"""

from __future__ import annotations

import sys

import orjson
import psycopg
import redis.asyncio as redis
import uvloop

from bench.peers import HANDWRITTEN, TOTAL, Peer, versions
from tests.servers import Postgres

TRIGGER = """
CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM pg_notify('user_credits', NEW.user_id::text);
    RETURN NULL;
END
$body$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON public.user_credits FOR EACH ROW EXECUTE FUNCTION public.tell();
"""


async def run(dsn: str, url: str) -> None:
    bell = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    reader = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    client = redis.Redis.from_url(url)
    await bell.execute("LISTEN user_credits")
    print("ready", flush=True)
    async for notify in bell.notifies():
        cursor = await reader.execute(TOTAL, (notify.payload,), prepare=True)
        row = await cursor.fetchone()
        document = orjson.dumps({"user_id": notify.payload, "credits": row[0] if row is not None else 0})
        name = f"credits:{notify.payload}"
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.set(name, document)
            pipeline.publish(name, document)
            await pipeline.execute()


def install(server: Postgres, dbname: str) -> None:
    server.psql(TRIGGER, dbname=dbname)


PEER = Peer(
    name=HANDWRITTEN,
    settings="row trigger, NOTIFY with the user's id; one user at a time, prepared, hiredis, uvloop",
    install=install,
    empty="",
    version=lambda: versions("psycopg", "redis"),
    module="bench.peers.handwritten",
)

if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2]))
