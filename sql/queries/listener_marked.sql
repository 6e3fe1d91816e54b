-- A mark on the session that listens, by which a standby finds it when its daemon is frozen. Nobody waits for this lock.
SELECT pg_try_advisory_lock_shared('creditsd.changes'::regclass::oid::int4, 391760418)
