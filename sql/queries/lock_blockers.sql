-- Who a session of ours waits for, and what it waits for.
SELECT
    (
        SELECT CASE
            WHEN w.locktype = 'advisory' THEN 'the lock of whose turn it is to store'
            WHEN w.relation IS NOT NULL THEN 'a lock on ' || w.relation::regclass
            ELSE 'a row that must be stored'
        END
        FROM pg_locks AS w
        WHERE w.pid = %(pid)s
        AND NOT w.granted
        LIMIT 1
    ) AS lock,
    a.pid,
    coalesce(a.usename, '')::text AS role,
    coalesce(a.application_name, '') AS application,
    '' AS transaction
FROM unnest(pg_blocking_pids(%(pid)s)) AS b (pid)
JOIN pg_stat_activity AS a ON a.pid = b.pid
