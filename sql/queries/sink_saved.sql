-- How far the sink has been told, and what ails it: `failing`, what was tried last has not arrived. A cursor that somebody
-- has set meanwhile stays. Returns what sink_registered does.
UPDATE creditsd.sinks
SET cursor = CASE WHEN cursor = %(saved)s THEN %(cursor)s ELSE cursor END,
    events_after = CASE WHEN cursor = %(saved)s THEN %(events_after)s ELSE events_after END,
    delivered = delivered + %(delivered)s,
    last_error = %(last_error)s,
    last_error_at = CASE WHEN %(last_error)s::text IS NULL THEN last_error_at ELSE now() END,
    failing_since = CASE
        WHEN %(failing)s AND %(delivered)s > 0 THEN now()
        WHEN %(failing)s THEN coalesce(failing_since, now())
        WHEN %(delivered)s = 0 THEN failing_since
    END,
    saved_at = now()
WHERE name = %(name)s
RETURNING
    cursor,
    paused_at IS NOT NULL,
    disabled_reason,
    extract(epoch FROM clock_timestamp() - failing_since)::float8,
    LEAST(cursor, events_after)
