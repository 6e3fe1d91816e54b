-- Whose changes the reader has not read: of those transactions that began since its cursor, and of those that were under way then.
SELECT c.user_id
FROM creditsd.changes AS c, creditsd.reader AS known
WHERE c.xid >= pg_snapshot_xmax(known.snapshot)
UNION ALL
SELECT c.user_id
FROM creditsd.reader AS known, pg_snapshot_xip(known.snapshot) AS running
JOIN creditsd.changes AS c ON c.xid = running
