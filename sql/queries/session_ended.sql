-- End a session that was not ours after all, with what we have set and locked in it.
SELECT pg_terminate_backend(a.pid)
FROM pg_stat_activity AS a
WHERE a.pid = %(pid)s
AND a.datname = current_database()
AND a.usename = session_user
