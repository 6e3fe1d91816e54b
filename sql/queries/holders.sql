-- Who holds the table, the one that has held it longest first.
SELECT
    a.pid,
    coalesce(nullif(a.application_name, ''), a.backend_type) AS application,
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds
FROM pg_locks AS l
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.relation = %(relation)s
AND l.granted
AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
AND a.pid <> pg_backend_pid()
ORDER BY a.xact_start
LIMIT 1
