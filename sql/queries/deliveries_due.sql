-- The newest totals of those whose next try at a sink is due: whatever was refused, it is the newest that is tried.
SELECT
    NULL::jsonb AS page,
    {total_columns}
FROM creditsd.deliveries AS d
JOIN creditsd.balances AS total ON total.user_id = d.user_id
WHERE d.sink = %(name)s
AND d.next_at <= clock_timestamp()
ORDER BY d.next_at
LIMIT %(limit)s
