-- Tell a sink one user's newest total again, as if it had been refused: but for what happened to the user, which was told.
INSERT INTO creditsd.deliveries AS d (sink, user_id, version, attempt, next_at, last_error, events_after)
SELECT %(name)s, b.user_id, b.version, 0, now(), 'told again by hand', b.version
FROM creditsd.balances AS b
WHERE b.user_id = %(user_id)s::text::creditsd.user_id
ON CONFLICT (sink, user_id) DO UPDATE
SET attempt = 0, next_at = now(), pulled_forward = false
RETURNING d.user_id::text
