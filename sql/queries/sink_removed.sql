-- Forget a sink that the daemon that leads does not deliver to: its cursor, what it refused, and what it was sent. Returns how many deliveries went with it; no
-- row where it stays.
WITH known AS (
    DELETE FROM creditsd.sinks AS s
    WHERE s.name = %(name)s
    AND (s.served_by = ({leader_pid})) IS NOT TRUE
    RETURNING s.name
),
refused AS (
    DELETE FROM creditsd.deliveries AS d
    USING known AS k
    WHERE d.sink = k.name
    RETURNING d.sink
),
attempted AS (
    DELETE FROM creditsd.attempts AS a
    USING known AS k
    WHERE a.sink = k.name
)
SELECT (SELECT count(*) FROM refused)
FROM known
