-- Give up a sink's refused deliveries, one user's or all.
DELETE FROM creditsd.deliveries AS d
WHERE d.sink = %(sink)s
AND (%(user_id)s::text IS NULL OR d.user_id = %(user_id)s::text::{user_id_type})
RETURNING d.user_id::text
