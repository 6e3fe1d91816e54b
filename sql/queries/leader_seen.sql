-- Who holds the leader's lock, and whether that session does nothing but wait for its client; no row where nobody does.
SELECT
    a.pid,
    coalesce(a.usename, '')::text AS role,
    coalesce(a.application_name, '') AS application,
    a.state_change::text,
    coalesce(a.wait_event_type = 'Client', false) AS waits_for_its_client
FROM pg_locks AS l
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory'
AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
AND l.classid = 'creditsd.changes'::regclass
AND l.objid = 1249075342
AND l.objsubid = 2
AND l.granted
