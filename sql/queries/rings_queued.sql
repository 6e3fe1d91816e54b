-- Commits that notify wait here for one another, each as long as the one before it takes to flush.
SELECT count(*)
FROM pg_locks
WHERE locktype = 'object'
AND database = 0
AND classid = 'pg_database'::regclass
AND objid = 0
AND NOT granted
