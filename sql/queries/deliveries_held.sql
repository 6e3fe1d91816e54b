-- Which of some users have a delivery that waits at a sink, or is dead.
SELECT d.user_id::text
FROM creditsd.deliveries AS d
WHERE d.sink = %(name)s
AND d.user_id = ANY (%(user_ids)s::text[]::creditsd.user_id[])
