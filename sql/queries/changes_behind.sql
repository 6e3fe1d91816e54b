-- How many changes are not recomputed yet, counted up to a limit: what began since, and what was under way then.
SELECT count(*)
FROM (
    SELECT
    FROM creditsd.changes AS c
    WHERE c.xid >= pg_snapshot_xmax(%(snapshot)s::text::pg_snapshot)
    UNION ALL
    SELECT
    FROM pg_snapshot_xip(%(snapshot)s::text::pg_snapshot) AS running
    JOIN creditsd.changes AS c ON c.xid = running
    LIMIT %(limit)s
) AS waiting
