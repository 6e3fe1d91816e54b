"""Changes different rows at a steady rate, as many threads as that takes, and notes when each commit returned.

Run as `python -m bench.pace DSN RATE COUNT FIRST ROWS`; change number n sets the credits to FIRST + n. Says "ready",
begins when told by a line, and ends with one JSON list: the moment of each commit, null where it never came to it.
"""

from __future__ import annotations

import random
import sys
import threading
import time

import orjson
import psycopg
from psycopg.pq import ExecStatus

# A second. Few, as an application's many clients do: a commit that takes long must not hold up those that follow.
CHANGES_PER_THREAD = 100
MOST_THREADS = 40

CHANGE = b"UPDATE public.user_credits SET credits = $1::integer WHERE id = $2::bigint"


def main() -> None:
    dsn, rate, count, first, rows = sys.argv[1], *map(int, sys.argv[2:6])
    ids = random.sample(range(1, rows + 1), count)
    threads = min(MOST_THREADS, max(2, -(-rate // CHANGES_PER_THREAD)))
    committed: list[float | None] = [None] * count
    connections = [psycopg.connect(dsn, autocommit=True) for _ in range(threads)]
    for connection in connections:
        connection.pgconn.prepare(b"change", CHANGE)
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()

    def work(thread: int) -> None:
        server = connections[thread].pgconn
        for n in range(thread, count, threads):
            ahead = begun + n / rate - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
            result = server.exec_prepared(b"change", [b"%d" % (first + n), b"%d" % ids[n]])
            committed[n] = time.perf_counter()
            assert result.status == ExecStatus.COMMAND_OK, result.error_message

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.stdout.buffer.write(orjson.dumps(committed) + b"\n")


if __name__ == "__main__":
    main()
