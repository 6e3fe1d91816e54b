"""The hand-written daemon grown up: a queue table, NOTIFY without a payload (one a transaction), batches.

Durable, and far quicker than one user at a time; a long transaction that holds back vacuum makes its polls slower.
"""

from __future__ import annotations

import sys

import orjson
import psycopg
import redis.asyncio as redis
import uvloop

from bench.peers import Peer, versions
from tests.servers import Postgres

TRIGGER = """
CREATE TABLE public.queue (id bigserial PRIMARY KEY, user_id uuid NOT NULL);
CREATE FUNCTION public.enqueue() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO public.queue (user_id) VALUES (NEW.user_id);
    NOTIFY queue;
    RETURN NULL;
END
$body$;
CREATE TRIGGER enqueue AFTER INSERT OR UPDATE ON public.user_credits FOR EACH ROW EXECUTE FUNCTION public.enqueue();
"""

# Taken and summed in one round trip. The sums are read by the snapshot that saw the queue's rows, and so their changes.
BATCH = """
WITH taken AS (
    DELETE FROM public.queue WHERE id IN (SELECT id FROM public.queue ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)
    RETURNING user_id
)
SELECT
    u.user_id::text,
    (SELECT sum(c.credits) FROM public.user_credits AS c WHERE c.user_id = u.user_id AND c.status = 'active')
FROM (SELECT DISTINCT user_id FROM taken) AS u
"""


async def run(dsn: str, url: str) -> None:
    bell = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    reader = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    client = redis.Redis.from_url(url)
    await bell.execute("LISTEN queue")
    print("ready", flush=True)
    while True:
        while await batch(reader, client):
            pass
        async for _ in bell.notifies(timeout=5, stop_after=1):
            pass


async def batch(reader: psycopg.AsyncConnection, client: redis.Redis) -> bool:
    rows = await (await reader.execute(BATCH, prepare=True)).fetchall()
    if rows:
        async with client.pipeline(transaction=False) as pipeline:
            for user_id, amount in rows:
                document = orjson.dumps({"user_id": user_id, "credits": amount})
                pipeline.set(f"credits:{user_id}", document)
                pipeline.publish(f"credits:{user_id}", document)
            await pipeline.execute()
    return bool(rows)


def install(server: Postgres, dbname: str) -> None:
    server.psql(TRIGGER, dbname=dbname)


PEER = Peer(
    name="hand-written, batching",
    settings="row trigger into a queue table, NOTIFY without payload; 1 000 a batch, one query, one pipeline",
    install=install,
    empty="TRUNCATE public.queue",
    version=lambda: versions("psycopg", "redis"),
    module="bench.peers.batching",
)

if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2]))
