-- How many changes are not recomputed yet, counted up to a limit.
SELECT count(*)
FROM (
    SELECT
    FROM creditsd.changes AS c
    WHERE c.xid >= pg_snapshot_xmin(%(snapshot)s::pg_snapshot)
    AND NOT pg_visible_in_snapshot(c.xid, %(snapshot)s::pg_snapshot)
    LIMIT %(limit)s
) AS waiting
