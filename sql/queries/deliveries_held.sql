-- Which of some users have to wait at a sink: those whose refused step comes first, or whose next try is due soon and will
-- take their newest total.
SELECT d.user_id::text
FROM creditsd.deliveries AS d
WHERE d.sink = %(name)s
AND d.user_id = ANY (%(user_ids)s::text[]::creditsd.user_id[])
AND (
    %(soon_seconds)s::float8 IS NULL
    OR d.next_at <= clock_timestamp() + make_interval(secs => %(soon_seconds)s)
)
