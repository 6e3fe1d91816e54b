-- One user's stored total.
SELECT
    NULL::jsonb AS page,
    {total_columns}
FROM creditsd.balances AS total
WHERE total.user_id = %(user_id)s::text::creditsd.user_id
