-- The first step after a sink's cursor of one user: of whoever has the next step after some version.
SELECT
    NULL::jsonb AS page,
    {total_columns}
FROM creditsd.history AS total
WHERE total.user_id = (
    SELECT h.user_id
    FROM creditsd.history AS h
    WHERE h.version > %(version)s
    ORDER BY h.version
    LIMIT 1
)
AND total.version > %(cursor)s
ORDER BY total.version
LIMIT 1
