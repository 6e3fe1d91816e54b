-- Who installs, or holds the lock for whose turn it is to, the one that has held it longest first.
SELECT
    a.pid,
    coalesce(nullif(a.application_name, ''), a.backend_type, 'nameless') AS application,
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds
FROM pg_locks AS l
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory'
AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
AND l.objsubid = 1
AND (l.classid::bigint << 32) | l.objid::bigint = hashtextextended('creditsd install', 0)
AND l.granted
AND a.pid <> pg_backend_pid()
ORDER BY a.xact_start
LIMIT 1
