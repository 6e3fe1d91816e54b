-- End a session that was not ours after all, with what we have set and locked in it: at once, or only while nobody is in the middle of
-- something there. Whether it is ended.
SELECT coalesce(bool_and(CASE WHEN a.state = 'idle' OR %(at_once)s THEN pg_terminate_backend(a.pid) ELSE false END), true)
FROM pg_stat_activity AS a
WHERE a.pid = %(pid)s
AND a.datname = current_database()
AND a.usename = session_user
