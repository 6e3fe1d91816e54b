-- The identity of this database: its server's system identifier (0 where that may not be asked) and its oid.
SELECT concat_ws('.', creditsd.heartbeat(NULL) ->> 'system_identifier', d.oid)
FROM pg_database AS d
WHERE d.datname = current_database()
