"""procrastinate, a task queue in PostgreSQL for Python, with its own function to defer a job called by a trigger."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import procrastinate
import uvloop

from bench.peers import Peer, versions
from bench.peers.totals import Totals
from tests.servers import Postgres

CONCURRENCY = 16

TRIGGER = """
CREATE FUNCTION public.defer() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM procrastinate_defer_jobs_v1(ARRAY[
        ('totals', 'total', 0, NULL, NULL, jsonb_build_object('user_id', NEW.user_id), NULL)
    ]::procrastinate_job_to_defer_v1[]);
    RETURN NULL;
END
$body$;
CREATE TRIGGER defer AFTER INSERT OR UPDATE ON public.user_credits FOR EACH ROW EXECUTE FUNCTION public.defer();
"""


async def run(dsn: str, url: str) -> None:
    logging.disable(logging.WARNING)
    totals = Totals(dsn, url, CONCURRENCY)
    await totals.open()
    connector = procrastinate.PsycopgConnector(conninfo=dsn, min_size=4, max_size=CONCURRENCY + 4)
    app = procrastinate.App(connector=connector)

    @app.task(name="total", queue="totals")  # type: ignore[untyped-decorator, unused-ignore]
    async def total(user_id: str) -> None:
        await totals.publish(user_id)

    async with app.open_async():
        print("ready", flush=True)
        await app.run_worker_async(queues=["totals"], concurrency=CONCURRENCY, listen_notify=True, delete_jobs="always")


def install(server: Postgres, dbname: str) -> None:
    server.psql((Path(procrastinate.__file__).parent / "sql" / "schema.sql").read_text(), dbname=dbname)
    server.psql(TRIGGER, dbname=dbname)


PEER = Peer(
    name="procrastinate",
    settings=f"row trigger calls procrastinate_defer_jobs_v1; concurrency {CONCURRENCY}, listen_notify, jobs deleted",
    install=install,
    empty="TRUNCATE procrastinate_jobs CASCADE",
    version=lambda: versions("procrastinate"),
    module="bench.peers.with_procrastinate",
)

if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2]))
