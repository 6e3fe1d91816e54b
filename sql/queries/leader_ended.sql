-- End the sessions of whoever leads: the one that holds the leader's lock, the one that sleeps or is about to, the one that listens.
SELECT a.pid, pg_terminate_backend(a.pid)
FROM pg_stat_activity AS a
WHERE starts_with(a.application_name, 'creditsd ')
AND a.pid IN (
    SELECT l.pid
    FROM pg_locks AS l
    WHERE l.locktype = 'advisory'
    AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
    AND l.classid = 'creditsd.changes'::regclass
    AND l.objsubid = 2
    AND (
        (l.objid = 1249075342 AND l.granted)
        OR (l.objid = 806331267 AND l.mode = 'ExclusiveLock')
        OR l.objid = 391760418
    )
)
