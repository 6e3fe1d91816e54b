-- The line at a glance: who leads, from where others would take over, what the doorbell does, how far the reader is.
WITH locks AS (
    SELECT l.objid, l.mode, l.granted, l.pid
    FROM pg_locks AS l
    WHERE l.locktype = 'advisory'
    AND l.objsubid = 2
    AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
    AND l.classid = 'creditsd.changes'::regclass
)
SELECT
    i.migration,
    leader.pid,
    host(leader.client_addr),
    leader.backend_start,
    ARRAY(
        SELECT coalesce(host(a.client_addr), 'local')
        FROM pg_stat_activity AS a
        WHERE a.datname = current_database()
        AND a.application_name = 'creditsd leader'
        AND a.pid IS DISTINCT FROM leader.pid
        ORDER BY a.backend_start, a.pid
    ) AS standbys,
    CASE
        WHEN leader.pid IS NULL THEN 'nobody'
        WHEN EXISTS (SELECT FROM locks AS k WHERE k.objid = 806331267 AND k.mode = 'ExclusiveLock' AND k.granted) THEN 'asleep'
        WHEN EXISTS (SELECT FROM locks AS k WHERE k.objid = 806331267 AND k.mode = 'ExclusiveLock') THEN 'asking'
        ELSE 'awake'
    END AS doorbell,
    ({changes_unread}) AS unread,
    r.resync_cause,
    r.resync_users,
    r.saved_at,
    (
        SELECT CASE
            WHEN c.reltuples < 100000 THEN (SELECT count(*) FROM creditsd.balances)
            ELSE c.reltuples::bigint
        END
        FROM pg_class AS c
        WHERE c.oid = 'creditsd.balances'::regclass
    ) AS users,
    (SELECT b.version FROM creditsd.balances AS b ORDER BY b.version DESC LIMIT 1) AS newest
FROM creditsd.installation AS i
LEFT JOIN creditsd.reader AS r ON true
LEFT JOIN LATERAL (
    SELECT a.pid, a.client_addr, a.backend_start
    FROM locks AS k
    JOIN pg_stat_activity AS a ON a.pid = k.pid
    WHERE k.objid = 1249075342
    AND k.granted
) AS leader ON true
