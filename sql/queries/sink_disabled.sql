-- Deliver nothing to a sink until a person says so; once enabled it has all its time again.
UPDATE creditsd.sinks
SET disabled_reason = coalesce(disabled_reason, %(reason)s),
    last_error = %(reason)s,
    last_error_at = now(),
    failing_since = NULL
WHERE name = %(name)s
RETURNING disabled_reason
