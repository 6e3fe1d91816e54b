-- How far the sink has been told, and what ails it.
UPDATE creditsd.sinks
SET cursor = %(cursor)s,
    delivered = delivered + %(delivered)s,
    last_error = %(last_error)s,
    last_error_at = CASE WHEN %(last_error)s::text IS NULL THEN last_error_at ELSE now() END,
    saved_at = now()
WHERE name = %(name)s
