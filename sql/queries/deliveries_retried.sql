-- Try a sink's refused deliveries now, one user's or all, and begin their schedule anew.
UPDATE creditsd.deliveries AS d
SET next_at = now(), attempt = 0, pulled_forward = false
WHERE d.sink = %(sink)s
AND (%(user_id)s::text IS NULL OR d.user_id = %(user_id)s::text::creditsd.user_id)
RETURNING d.user_id::text
