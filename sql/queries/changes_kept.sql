-- How many changes nobody has read, counted up to a limit, and what the table takes on the disk.
SELECT
    (
        SELECT count(*)
        FROM (
            SELECT
            FROM creditsd.changes AS c
            LEFT JOIN creditsd.reader AS r ON true
            WHERE pg_visible_in_snapshot(c.xid, r.snapshot) IS NOT TRUE
            LIMIT %(limit)s
        ) AS waiting
    ),
    pg_size_pretty(pg_total_relation_size('creditsd.changes'))
