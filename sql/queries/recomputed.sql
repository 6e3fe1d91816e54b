-- Certain users, recomputed: each total that changed, or every one where they are to be published again.
SELECT
    NULL::jsonb AS page,
    {total_columns}
FROM creditsd.recompute(
    %(user_ids)s::text[]::creditsd.user_id[], %(cause)s, %(can_buy)s, %(expire_empty)s, %(empty_seconds)s::double precision, %(events)s::jsonb, %(republish)s, %(history_days)s::integer
) AS total
