-- The sink's cursor, whether it stands still, for how many seconds nothing has arrived, and up to which version everyone
-- has been told what happened; a new sink begins at nothing, and so is told of everyone. Time in which nobody tried to
-- deliver, for there was no daemon, no database or a pause, is not time in which the sink failed.
INSERT INTO creditsd.sinks AS s (name, served_by)
SELECT
    %(name)s,
    ({leader_pid})
ON CONFLICT (name) DO UPDATE
SET failing_since = s.failing_since + (now() - s.saved_at),
    saved_at = now(),
    served_by = excluded.served_by
RETURNING
    s.cursor,
    s.paused_at IS NOT NULL,
    s.disabled_reason,
    extract(epoch FROM clock_timestamp() - s.failing_since)::float8,
    LEAST(s.cursor, s.events_after)
