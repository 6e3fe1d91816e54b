"""The floor of latency: the daemon anyone writes by hand, at its best: NOTIFY, SELECT, SET and PUBLISH.

Run as `python -m bench.floor DSN REDIS_URL`; says "ready" when it listens. It may miss and reorder.
"""

from __future__ import annotations

import sys

import orjson
import psycopg
import redis.asyncio as redis
import uvloop

TRIGGER = """
CREATE FUNCTION public.floor() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM pg_notify('floor', NEW.user_id::text);
    RETURN NULL;
END
$body$;
CREATE TRIGGER floor AFTER INSERT OR UPDATE ON public.user_credits
FOR EACH ROW EXECUTE FUNCTION public.floor();
"""

TOTAL = "SELECT sum(credits) FROM public.user_credits WHERE user_id = %b::uuid AND status = 'active'"


async def run(dsn: str, url: str) -> None:
    bell = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    reader = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    client = redis.Redis.from_url(url)
    await bell.execute("LISTEN floor")
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


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2]))
