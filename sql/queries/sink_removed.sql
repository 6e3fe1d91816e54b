-- Forget a sink that the daemon that leads does not deliver to: its cursor, and what it refused. Returns how many deliveries went with it; no
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
)
SELECT (SELECT count(*) FROM refused)
FROM known
