-- Whether the lock that this session leads by is still the one that others ask for: not where our tables were made anew under it.
SELECT EXISTS (
    SELECT
    FROM pg_locks AS l
    WHERE l.locktype = 'advisory'
    AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
    AND l.classid = to_regclass('creditsd.changes')
    AND l.objid = 1249075342
    AND l.objsubid = 2
    AND l.granted
    AND l.pid = pg_backend_pid()
)
