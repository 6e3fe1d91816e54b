-- Whose delivery waits at a sink, or is dead; at most so many.
SELECT d.user_id::text
FROM creditsd.deliveries AS d
WHERE d.sink = %(name)s
LIMIT %(limit)s
