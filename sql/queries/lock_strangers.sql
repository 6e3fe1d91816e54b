-- Who holds a lock of ours without being one of us. A writer that keeps silent holds K as well, and by then one on the table it writes.
-- And who has, or asks for, a lock on what the triggers write to that every writer waits for.
SELECT
    ours.lock,
    a.pid,
    coalesce(a.usename, '')::text AS role,
    coalesce(a.application_name, '') AS application,
    CASE WHEN l.mode = 'ShareLock' THEN l.virtualtransaction ELSE '' END AS transaction
FROM pg_locks AS l
JOIN (
    VALUES
        ('creditsd.changes'::regclass::oid, 806331267::oid, 'the lock K of sleeping'),
        ('creditsd.changes'::regclass::oid, 1249075342::oid, 'the leader''s lock'),
        ('creditsd.balances'::regclass::oid, 561984073::oid, 'the lock of whose turn it is to store')
) AS ours (classid, objid, lock) ON ours.classid = l.classid AND ours.objid = l.objid
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory'
AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
AND l.objsubid = 2
AND l.granted
AND NOT starts_with(coalesce(a.application_name, ''), 'creditsd ')
AND NOT (
    l.mode = 'ShareLock'
    AND EXISTS (
        SELECT
        FROM pg_locks AS w
        JOIN pg_trigger AS t ON t.tgrelid = w.relation
        JOIN pg_proc AS f ON f.oid = t.tgfoid
        WHERE w.pid = l.pid
        AND w.database = l.database
        AND w.mode NOT IN ('AccessShareLock', 'RowShareLock')
        AND w.granted
        AND f.pronamespace = 'creditsd'::regnamespace
    )
)
UNION ALL
SELECT
    'up the application''s writes, by ' || l.mode || ' on ' || l.relation::regclass || CASE WHEN l.granted THEN '' ELSE ' it waits for' END,
    a.pid,
    coalesce(a.usename, '')::text,
    coalesce(a.application_name, ''),
    ''
FROM pg_locks AS l
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation'
AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
AND l.relation IN ('creditsd.changes'::regclass, 'creditsd.resyncs'::regclass)
AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
AND NOT starts_with(coalesce(a.application_name, ''), 'creditsd ')
