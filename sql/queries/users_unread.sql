-- Which of certain users the daemon has yet to look at: a change not read, a time that has come, a resync not so far.
SELECT asked.user_id::text
FROM unnest(%(user_ids)s::text[]::creditsd.user_id[]) AS asked (user_id)
LEFT JOIN creditsd.reader AS r ON true
WHERE EXISTS (SELECT FROM creditsd.resyncs)
OR (r.resync_cause IS NOT NULL AND (r.resync_after IS NULL OR asked.user_id > r.resync_after::creditsd.user_id))
OR asked.user_id IN (
{users_changed}
)
OR asked.user_id IN (SELECT b.user_id FROM creditsd.balances AS b WHERE b.recheck_at <= clock_timestamp())
