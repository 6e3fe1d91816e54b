-- Who holds a lock of ours without being one of us. A writer that keeps silent holds K as well, but has marked a change by then.
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
    AND EXISTS (SELECT FROM pg_locks AS w WHERE w.pid = l.pid AND w.relation = 'creditsd.changes'::regclass AND w.granted)
)
