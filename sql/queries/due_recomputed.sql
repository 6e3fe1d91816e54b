-- Those whose time has come, recomputed: each total that changed, then one row with the page.
SELECT
    page,
    {total_columns}
FROM creditsd.recompute_due(%(max_users)s, %(can_buy)s, %(expire_empty)s, %(empty_seconds)s::double precision, %(events)s::jsonb, %(history_days)s::integer)
