"""pgqueuer, a job queue in PostgreSQL for Python, fed by a trigger that inserts into its table."""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from typing import Any

import asyncpg
import pgqueuer
import uvloop
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment
from pgqueuer.db import AsyncpgDriver
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.queries import Queries

from bench.peers import Peer, address, versions
from bench.peers.totals import Totals
from tests.servers import Postgres

BATCH_SIZE = 100

TRIGGER = """
CREATE FUNCTION public.enqueue() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO pgqueuer (priority, entrypoint, payload, status)
    VALUES (0, 'total', convert_to(NEW.user_id::text, 'UTF8'), 'queued');
    RETURN NULL;
END
$body$;
CREATE TRIGGER enqueue AFTER INSERT OR UPDATE ON public.user_credits FOR EACH ROW EXECUTE FUNCTION public.enqueue();
"""


async def run(dsn: str, url: str) -> None:
    logging.disable(logging.WARNING)
    totals = Totals(dsn, url, 8)
    await totals.open()
    connection = await asyncpg.connect(address(dsn))
    app = pgqueuer.PgQueuer(AsyncpgDriver(connection))

    @app.entrypoint("total")  # type: ignore[untyped-decorator, unused-ignore]
    async def total(job: Any) -> None:
        await totals.publish(job.payload.decode())

    print("ready", flush=True)
    await app.run(batch_size=BATCH_SIZE, max_concurrent_tasks=2 * BATCH_SIZE, dequeue_timeout=timedelta(seconds=5))


def install(server: Postgres, dbname: str) -> None:
    async def make() -> None:
        connection = await asyncpg.connect(address(server.dsn(dbname)))
        environment = QueryBuilderEnvironment(DBSettings(durability=Durability.balanced))
        await Queries(AsyncpgDriver(connection), qbe=environment).install()
        await connection.close()

    uvloop.run(make())
    server.psql(TRIGGER, dbname=dbname)


PEER = Peer(
    name="pgqueuer",
    settings=f"row trigger; batch_size {BATCH_SIZE}, two batches at a time, asyncpg, durability balanced",
    install=install,
    empty="TRUNCATE pgqueuer, pgqueuer_log",
    version=lambda: versions("pgqueuer", "asyncpg"),
    module="bench.peers.with_pgqueuer",
)

if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2]))
