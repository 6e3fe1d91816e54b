-- The next page of changes, recomputed: each total that changed, then one row with the page.
SELECT
    page,
    {total_columns}
FROM creditsd.drain(
    %(snapshot)s::text::pg_snapshot, %(upto)s::text::pg_snapshot, %(pass_page)s::integer, %(max_changes)s, %(can_buy)s,
    %(expire_empty)s, %(empty_seconds)s::double precision, %(events)s::jsonb, %(history_days)s::integer
)
