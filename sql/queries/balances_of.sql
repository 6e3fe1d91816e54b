-- The stored totals of certain users, in the order of versions.
SELECT
    NULL::jsonb AS page,
    {total_columns}
FROM creditsd.balances AS total
WHERE total.user_id = ANY(%(user_ids)s::text[]::creditsd.user_id[])
ORDER BY total.version
