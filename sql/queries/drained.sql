-- The next page of changes, recomputed: each total that changed, then one row with the page.
SELECT
    page,
    {total_columns}
FROM creditsd.drain(
    %(snapshot)s::text::pg_snapshot, %(upto)s::text::pg_snapshot, %(xid)s::text::xid8, %(user_id)s::text::creditsd.user_id,
    %(version)s::bigint, %(max_changes)s, %(can_buy)s, %(expire_empty)s, %(empty_seconds)s::double precision, %(events)s::jsonb, %(history_days)s::integer
)
