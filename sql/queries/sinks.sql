-- Each sink the database knows: its cursor, how many totals it has yet to be told (counted up to a limit), its last error.
SELECT
    s.name,
    s.cursor,
    (
        SELECT count(*)
        FROM (SELECT FROM creditsd.balances AS b WHERE b.version > s.cursor LIMIT %(limit)s) AS waiting
    ) AS queue,
    s.delivered,
    s.last_error,
    s.last_error_at,
    s.saved_at
FROM creditsd.sinks AS s
ORDER BY s.name
