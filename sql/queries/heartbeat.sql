-- Rings for ourselves, and tells which server this is.
SELECT creditsd.heartbeat(%(proof)s)
