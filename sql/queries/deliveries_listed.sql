-- Refused deliveries: of one sink or all, dead ones or all; those that are tried next come first.
SELECT
    d.sink,
    d.user_id::text,
    d.version,
    d.attempt,
    d.next_at,
    d.last_status,
    d.last_error,
    d.refused_at,
    d.tried_at,
    ARRAY(SELECT k FROM jsonb_object_keys(d.accepted) AS k ORDER BY k)
FROM creditsd.deliveries AS d
WHERE (%(sink)s::text IS NULL OR d.sink = %(sink)s)
AND (%(user_id)s::text IS NULL OR d.user_id = %(user_id)s::text::creditsd.user_id)
AND (d.next_at IS NULL OR NOT %(dead)s)
ORDER BY d.sink, d.next_at, d.user_id
LIMIT %(limit)s
