-- How far the resync is: users done, and whether it is over.
SELECT
    r.resync_users,
    r.resync_cause IS NULL AND NOT EXISTS (SELECT FROM creditsd.resyncs)
FROM creditsd.reader AS r
