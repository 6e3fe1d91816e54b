-- Whether anybody leads.
SELECT EXISTS (
    SELECT
    FROM pg_locks AS l
    WHERE l.locktype = 'advisory'
    AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
    AND l.classid = 'creditsd.changes'::regclass
    AND l.objid = 1249075342
    AND l.objsubid = 2
    AND l.granted
)
