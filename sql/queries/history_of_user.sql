-- One user's steps that are kept and are older than a version, the newest first.
SELECT
    NULL::jsonb AS page,
    {total_columns}
FROM creditsd.history AS total
WHERE total.user_id = %(user_id)s::text::creditsd.user_id
    AND total.version < %(before)s
ORDER BY total.version DESC
LIMIT %(limit)s
