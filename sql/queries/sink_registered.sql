-- The sink's cursor, whether it stands still, for how many seconds nothing has arrived, and up to which version everyone
-- has been told what happened; a new sink begins at nothing, and so is told of everyone.
INSERT INTO creditsd.sinks (name)
VALUES (%(name)s)
ON CONFLICT (name) DO UPDATE
SET name = excluded.name
RETURNING
    cursor,
    paused_at IS NOT NULL,
    disabled_reason,
    extract(epoch FROM clock_timestamp() - failing_since)::float8,
    LEAST(cursor, events_after)
