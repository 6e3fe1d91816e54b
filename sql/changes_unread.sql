-- How many changes nobody has read, counted up to a limit.
SELECT count(*)
FROM (
    SELECT
    FROM creditsd.changes AS c
    LEFT JOIN creditsd.reader AS r ON true
    WHERE pg_visible_in_snapshot(c.xid, r.snapshot) IS NOT TRUE
    LIMIT %(limit)s
) AS waiting
