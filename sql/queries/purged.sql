-- One step of deleting what is read.
SELECT snapshot::text, next_xid::text, next_user::text, deleted
FROM creditsd.purge(%(snapshot)s::text::pg_snapshot, %(xid)s::text::xid8, %(user_id)s::text::creditsd.user_id, %(max_changes)s)
