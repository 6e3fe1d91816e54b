-- Of certain users, whose stored total is not the table's, and how, though nothing says that news is on its way: all in one snapshot, so
-- that whoever is found neither waits for a change to be read, nor for a time that has come, a resync, or a repair.
SELECT
    computed.user_id::text,
    CASE WHEN stored.version IS NULL THEN 'missing' ELSE 'wrong' END AS drift
FROM creditsd.totals(%(user_ids)s::text[]::creditsd.user_id[], now(), %(can_buy)s, %(expire_empty)s) AS computed
LEFT JOIN creditsd.balances AS stored ON stored.user_id = computed.user_id
LEFT JOIN creditsd.reader AS r ON true
WHERE CASE
    WHEN stored.version IS NULL THEN computed.membership_status <> 'none'
    ELSE creditsd.differs_now(stored, computed, %(events)s::jsonb)
END
AND (stored.recheck_at <= clock_timestamp()) IS NOT TRUE
AND r.resync_cause IS NULL
AND NOT EXISTS (SELECT FROM creditsd.resyncs)
AND NOT EXISTS (SELECT FROM creditsd.repairs AS asked WHERE asked.user_id = computed.user_id)
AND computed.user_id NOT IN (
{users_changed}
)
