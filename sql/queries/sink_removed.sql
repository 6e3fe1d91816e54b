-- Forget a sink that the daemon that leads does not deliver to: its cursor, and what it refused. Returns how many deliveries went with it; no
-- row where it stays.
WITH known AS (
    DELETE FROM creditsd.sinks AS s
    WHERE s.name = %(name)s
    AND NOT EXISTS (
        SELECT
        FROM pg_locks AS l
        WHERE l.locktype = 'advisory'
        AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
        AND l.classid = 'creditsd.changes'::regclass
        AND l.objid = 1249075342
        AND l.objsubid = 2
        AND l.granted
        AND l.pid = s.served_by
    )
    RETURNING s.name
),
refused AS (
    DELETE FROM creditsd.deliveries AS d
    USING known AS k
    WHERE d.sink = k.name
    RETURNING d.sink
)
SELECT (SELECT count(*) FROM refused)
FROM known
