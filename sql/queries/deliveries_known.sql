-- Whose delivery waits at a sink, and whether it is dead; at most so many.
SELECT d.user_id::text, d.next_at IS NULL
FROM creditsd.deliveries AS d
WHERE d.sink = %(name)s
LIMIT %(limit)s
