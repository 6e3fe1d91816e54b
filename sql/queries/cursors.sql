-- The version up to which each sink has been told.
SELECT s.name, s.cursor
FROM creditsd.sinks AS s
ORDER BY s.name
