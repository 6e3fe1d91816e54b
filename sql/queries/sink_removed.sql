-- Forget a sink: its cursor, and what it refused. Returns how many deliveries went with it; no row where nobody knew it.
WITH refused AS (
    DELETE FROM creditsd.deliveries
    WHERE sink = %(name)s
    RETURNING sink
),
known AS (
    DELETE FROM creditsd.sinks
    WHERE name = %(name)s
    RETURNING name
)
SELECT (SELECT count(*) FROM refused)
FROM known
