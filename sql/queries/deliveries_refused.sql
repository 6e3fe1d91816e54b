-- Of certain users those whose delivery a sink has refused: how far they had been told before, and what was accepted since.
SELECT d.user_id::text, d.events_after, d.accepted
FROM creditsd.deliveries AS d
WHERE d.sink = %(name)s
AND d.user_id = ANY (%(user_ids)s::text[]::creditsd.user_id[])
