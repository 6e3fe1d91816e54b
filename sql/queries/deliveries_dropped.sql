-- Give up a sink's refused deliveries, one user's or all. Where a sink is told every step, the user's next one is tried.
WITH given_up AS (
    SELECT
        d.user_id,
        (
            SELECT h.version
            FROM creditsd.history AS h
            WHERE d.in_order
            AND h.user_id = d.user_id
            AND h.version > d.version
            ORDER BY h.version
            LIMIT 1
        ) AS next_version
    FROM creditsd.deliveries AS d
    WHERE d.sink = %(sink)s
    AND (%(user_id)s::text IS NULL OR d.user_id = %(user_id)s::text::creditsd.user_id)
    FOR UPDATE
),
following AS (
    UPDATE creditsd.deliveries AS d
    SET version = g.next_version,
        attempt = 0,
        pulled_forward = false,
        next_at = now(),
        refused_at = now(),
        events_after = d.version,
        accepted = '{}'
    FROM given_up AS g
    WHERE d.sink = %(sink)s
    AND d.user_id = g.user_id
    AND g.next_version IS NOT NULL
),
gone AS (
    DELETE FROM creditsd.deliveries AS d
    USING given_up AS g
    WHERE d.sink = %(sink)s
    AND d.user_id = g.user_id
    AND g.next_version IS NULL
)
SELECT g.user_id::text
FROM given_up AS g
