-- The few changes of a quiet moment, recomputed: each total that changed, then one row with the page; or one without a snapshot.
SELECT
    snapshot::text,
    changes,
    users,
    due_at::text,
    CASE WHEN due_at < 'infinity' THEN extract(epoch FROM due_at - clock)::double precision END,
    extract(epoch FROM clock)::double precision,
    {total_columns}
FROM creditsd.drain_few(
    %(snapshot)s::text::pg_snapshot, %(newest)s, %(due_at)s::text::timestamptz, %(can_buy)s, %(expire_empty)s,
    %(empty_seconds)s::double precision, %(events)s::jsonb
)
