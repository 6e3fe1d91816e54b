-- The next users after one, in order: whoever has rows, and whoever had.
SELECT both_sides.user_id::text
FROM (
    (
        SELECT DISTINCT s.user_id
        FROM creditsd.source AS s
        WHERE s.user_id > %(user_id)s::text::creditsd.user_id
        ORDER BY s.user_id
        LIMIT %(limit)s
    )
    UNION
    (
        SELECT b.user_id
        FROM creditsd.balances AS b
        WHERE b.user_id > %(user_id)s::text::creditsd.user_id
        ORDER BY b.user_id
        LIMIT %(limit)s
    )
) AS both_sides
ORDER BY both_sides.user_id
LIMIT %(limit)s
