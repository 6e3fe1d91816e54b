-- The process of whoever leads, by the lock that leading takes; null where nobody does, or where the tables it is named after are gone.
SELECT l.pid
FROM pg_locks AS l
WHERE l.locktype = 'advisory'
AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
AND l.classid = to_regclass('creditsd.changes')
AND l.objid = 1249075342
AND l.objsubid = 2
AND l.granted
