-- How far the changes are read.
UPDATE creditsd.reader
SET snapshot = %(snapshot)s::text::pg_snapshot, saved_at = now()
