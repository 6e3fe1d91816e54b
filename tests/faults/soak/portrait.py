"""What a line that stands still is doing: what each daemon says and last logged, and its sessions at the server."""

from __future__ import annotations

import psycopg

from tests.faults.soak.world import World

LINES = 8
SESSIONS = """
SELECT
    a.application_name, a.pid, a.state, a.wait_event_type, a.wait_event,
    round(extract(epoch FROM clock_timestamp() - a.state_change)::numeric, 1), pg_blocking_pids(a.pid),
    left(regexp_replace(a.query, E'\\s+', ' ', 'g'), 100)
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
ORDER BY 1, 2
"""
LOCKS = """
SELECT l.pid, l.classid::regclass, l.objid, l.mode, l.granted FROM pg_locks AS l WHERE l.locktype = 'advisory'
"""
STORED = """
SELECT (SELECT count(*) FROM creditsd.changes), (SELECT saved_at FROM creditsd.reader), now(),
    (SELECT max(version) FROM creditsd.balances)
"""


async def portrait(world: World) -> list[str]:
    """Return it line by line; of a server that answers nobody, what it says."""
    found = []
    for member in world.crew.members:
        if member.daemon is not None:
            found.append(f"daemon {member.name} ({member.daemon.pid}) says {await member.daemon.ask('/livez')}")
            found += [f"daemon {member.name} logged {line}" for line in member.daemon.log().splitlines()[-LINES:]]
    try:
        for query, what in ((STORED, "changes, saved, now, newest"), (SESSIONS, "session"), (LOCKS, "advisory lock")):
            found += [f"{what}: {row}" for row in await world.run(query)]
    except psycopg.Error as error:
        found.append(f"the server: {error}")
    return found
